//! Tokens as text.
//!
//! ```text
//! hf_<kind>_<id>_<secret>_<checksum>        hf_app_0k3...(13)_7t9...(52)_1c0...(7)
//! ```
//!
//! The prefix lets scanners of source code recognise one, the checksum lets anybody refuse a mistyped one
//! without asking the server, the id is public and finds the token, and the secret (256 bits) proves it.
//! All parts but the kind are in base 32, so that a double click selects the whole token. A token has one
//! spelling.

use std::fmt;

use super::codec::checksum;
use super::id::{DIGITS, TokenId, digit};
use super::secret::Secret;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;
const SECRET_DIGITS: usize = 52;
const CHECKSUM_DIGITS: usize = 7;
const PREFIX: &str = "hf_";
/// No token is longer.
pub const TOKEN_BYTES_MAX: usize = 96;

/// What a token is for, as its text says; what it may do is kept by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has the scope `admin`.
    Admin,
    /// Any other.
    App,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Kind::Admin => "admin",
            Kind::App => "app",
        }
    }
}

/// Why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not look like one.
    #[error("a token looks like hf_<kind>_<id>_<secret>_<checksum>")]
    Form,
    /// It does, but a character was changed or lost on the way.
    #[error("the token's checksum is wrong: it was mistyped or cut")]
    Checksum,
}

/// The parts of a token. Printing it prints no secret.
#[derive(Clone)]
pub struct Token {
    /// What it is for.
    pub kind: Kind,
    /// The public half.
    pub id: TokenId,
    /// The secret half.
    pub secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{}_***", self.kind.as_str(), self.id)
    }
}

impl Token {
    /// The token as it is given to its owner, once.
    pub fn to_text(&self) -> Secret {
        let mut text = format!("{PREFIX}{}_{}_", self.kind.as_str(), self.id);
        write_digits(&self.secret, SECRET_DIGITS, &mut text);
        let crc = checksum(text.as_bytes()).to_be_bytes();
        text.push('_');
        write_digits(&crc, CHECKSUM_DIGITS, &mut text);
        Secret::new(&text)
    }

    /// Reads what [`Token::to_text`] writes, and nothing else.
    pub fn parse(text: &str) -> Result<Token, BadToken> {
        if TOKEN_BYTES_MAX < text.len() {
            return Err(BadToken::Form);
        }
        let (body, crc) = text.rsplit_once('_').ok_or(BadToken::Form)?;
        let mut parts = body.strip_prefix(PREFIX).ok_or(BadToken::Form)?.split('_');
        let (kind, id, secret) = (parts.next(), parts.next(), parts.next());
        let kind = match kind {
            Some("admin") => Kind::Admin,
            Some("app") => Kind::App,
            _ => return Err(BadToken::Form),
        };
        let id = TokenId::parse(id.unwrap_or("")).map_err(|_| BadToken::Form)?;
        let secret = read_digits::<SECRET_BYTES, SECRET_DIGITS>(secret.unwrap_or(""));
        let crc = read_digits::<4, CHECKSUM_DIGITS>(crc);
        let (Some(secret), Some(crc), None) = (secret, crc, parts.next()) else {
            return Err(BadToken::Form);
        };
        if checksum(body.as_bytes()) != u32::from_be_bytes(crc) {
            return Err(BadToken::Checksum);
        }
        Ok(Token { kind, id, secret })
    }
}

/// `bytes` in base 32, most significant first; the last digit is filled up with zero bits.
fn write_digits(bytes: &[u8], digits: usize, out: &mut String) {
    for place in 0..digits {
        let mut digit = 0;
        for bit in place * 5..place * 5 + 5 {
            let byte = bytes.get(bit / 8).copied().unwrap_or(0);
            digit = digit << 1 | usize::from(byte >> (7 - bit % 8) & 1);
        }
        out.push(char::from(DIGITS[digit]));
    }
}

/// Reads what [`write_digits`] writes; `None` for anything else, also for bits beyond the last byte.
fn read_digits<const BYTES: usize, const PLACES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != PLACES {
        return None;
    }
    let mut out = [0_u8; BYTES];
    let (mut held, mut bits, mut at) = (0_u32, 0, 0);
    for byte in text.bytes() {
        held = held << 5 | u32::from(digit(byte)?);
        bits += 5;
        if 8 <= bits && at < BYTES {
            bits -= 8;
            out[at] = (held >> bits & 0xff) as u8;
            at += 1;
        }
    }
    (at == BYTES && held & ((1 << bits) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::{BadToken, Kind, TOKEN_BYTES_MAX, Token};
    use crate::base::id::TokenId;
    use crate::base::rng::Rng;

    fn token(seed: u64) -> Token {
        let mut rng = Rng::from_seed(seed);
        let kind = if rng.one_in(2) { Kind::Admin } else { Kind::App };
        let id = TokenId::from_raw(rng.next_u64());
        Token { kind, id, secret: rng.bytes(32).try_into().unwrap() }
    }

    #[test]
    fn a_token_is_read_as_it_is_written() {
        for seed in 0..200 {
            let token = token(seed);
            let text = token.to_text();
            let read = Token::parse(text.expose()).unwrap();
            assert_eq!((read.kind, read.id, read.secret), (token.kind, token.id, token.secret));
            assert!(text.expose().len() <= TOKEN_BYTES_MAX);
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = token(5).to_text().expose().to_owned();
        for at in 0..text.len() {
            for other in ["0", "z", "_", "-", "K"] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, other);
                if changed != text {
                    assert!(Token::parse(&changed).is_err(), "{changed}");
                }
            }
            assert!(Token::parse(&text[..at]).is_err());
        }
        assert_eq!(Token::parse("hunter2").unwrap_err(), BadToken::Form);
        let mistyped =
            text.replacen(&text[40..41], if &text[40..41] == "7" { "8" } else { "7" }, 1);
        assert!(Token::parse(&mistyped).is_err());
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = token(9);
        let secret = token.to_text().expose().split('_').nth(3).unwrap().to_owned();
        assert!(!format!("{token:?} {:?}", token.to_text()).contains(&secret));
    }
}

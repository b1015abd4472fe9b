//! gzip and zstd for those who ask.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::HeaderValue;

/// A way to make a body smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

impl Coding {
    /// How headers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the client likes best of what we have; `None` when it wants the body as it is.
    pub fn accepted(accept: &HeaderValue) -> Option<Coding> {
        let text = accept.to_str().ok()?;
        let (mut zstd, mut gzip, mut any) = (None, None, None);
        for part in text.split(',').take(32) {
            let (name, rest) = part.split_once(';').unwrap_or((part, ""));
            let quality = quality(rest)?;
            match name.trim().to_ascii_lowercase().as_str() {
                "zstd" => zstd = Some(quality),
                "gzip" | "x-gzip" => gzip = Some(quality),
                "*" => any = Some(quality),
                _ => {}
            }
        }
        let (zstd, gzip) = (zstd.or(any).unwrap_or(0), gzip.or(any).unwrap_or(0));
        match (zstd, gzip) {
            (0, 0) => None,
            (zstd, gzip) if gzip <= zstd => Some(Coding::Zstd),
            _ => Some(Coding::Gzip),
        }
    }

    /// `body` made smaller; `None` when it does not get smaller.
    pub fn apply(self, body: &Bytes) -> Option<Bytes> {
        let out = match self {
            Coding::Zstd => zstd::bulk::compress(body, 3).ok()?,
            Coding::Gzip => {
                let out = Vec::with_capacity(body.len() / 2);
                let mut encoder = GzEncoder::new(out, Compression::new(5));
                encoder.write_all(body).ok()?;
                encoder.finish().ok()?
            }
        };
        (out.len() < body.len()).then(|| Bytes::from(out))
    }
}

/// The weight in `;q=0.5`, in thousandths; 1000 without one, `None` for what is no weight.
fn quality(text: &str) -> Option<u32> {
    let text = text.trim();
    if text.is_empty() {
        return Some(1000);
    }
    let number = text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if 3 < fraction.len() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u32 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Coding;
    use bytes::Bytes;
    use hyper::header::HeaderValue;

    #[test]
    fn the_client_decides() {
        let accepted = |text: &'static str| Coding::accepted(&HeaderValue::from_static(text));
        assert_eq!(accepted("gzip, deflate, br, zstd"), Some(Coding::Zstd));
        assert_eq!(accepted("gzip"), Some(Coding::Gzip));
        assert_eq!(accepted("gzip;q=1.0, zstd;q=0.5"), Some(Coding::Gzip));
        assert_eq!(accepted("zstd;q=0, gzip;q=0"), None);
        assert_eq!(accepted("*"), Some(Coding::Zstd));
        assert_eq!(accepted("*;q=0"), None);
        assert_eq!(accepted("identity"), None);
        assert_eq!(accepted("br"), None);
        assert_eq!(accepted("gzip;q=nonsense"), None);
        assert_eq!(accepted(""), None);
    }

    #[test]
    fn what_is_made_smaller_can_be_made_whole_again() {
        use std::io::Read as _;
        let body = Bytes::from("holdfast ".repeat(500));
        let gzip = Coding::Gzip.apply(&body).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text.as_bytes(), body);
        let small = Coding::Zstd.apply(&body).unwrap();
        assert_eq!(zstd::bulk::decompress(&small, body.len()).unwrap(), body);
        assert_eq!(Coding::Gzip.apply(&Bytes::from_static(b"x")), None);
    }
}

//! The terminal of a picture that refreshes: keys come one by one, and everything is as before afterwards.

use std::io::{IsTerminal as _, Write as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::io::{AsyncReadExt as _, Stdin};

/// The second screen, empty, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back to the first one, as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A terminal that shows pictures until this value is dropped.
#[derive(Debug)]
pub struct Screen {
    before: Option<Termios>,
    keys: Option<Stdin>,
}

impl Screen {
    /// Takes the terminal over; nothing when standard output is none. Must be called within a runtime.
    pub fn enter() -> std::io::Result<Option<Screen>> {
        if !std::io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = if std::io::stdin().is_terminal() { Some(raw_keys()?) } else { None };
        let keys = before.is_some().then(tokio::io::stdin);
        let screen = Screen { before, keys };
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Columns and rows.
    pub fn size() -> (usize, usize) {
        let size = tcgetwinsize(std::io::stdout()).ok();
        let size = size.filter(|size| 0 < size.ws_col && 0 < size.ws_row);
        size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
    }

    /// Shows these lines in the place of what was there.
    pub fn show(&self, text: &str) -> std::io::Result<()> {
        // Each line is cleared behind its end, and everything below the last one: nothing flickers.
        let lines = text.lines().collect::<Vec<_>>().join("\x1b[K\r\n");
        write(&format!("\x1b[H{lines}\x1b[K\x1b[J"))
    }

    /// Waits for a key; for ever if there are none.
    pub async fn key(&mut self) -> std::io::Result<u8> {
        let Some(keys) = &mut self.keys else {
            return std::future::pending().await;
        };
        loop {
            let mut byte = [0];
            // Nothing means that nobody pressed one so far.
            if keys.read(&mut byte).await? == 1 {
                return Ok(byte[0]);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(write(LEAVE));
        if let Some(before) = &self.before {
            tcsetattr(std::io::stdin(), OptionalActions::Flush, before).ok();
        }
    }
}

/// A key is waited for in pieces of so many tenths of a second, so that nobody hangs on it at the end.
const KEY_TENTHS: u8 = 2;

/// Keys come at once and are not shown; Ctrl-C still interrupts, Ctrl-Z does not leave the screen behind.
fn raw_keys() -> std::io::Result<Termios> {
    let before = tcgetattr(std::io::stdin())?;
    let mut raw = before.clone();
    raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
    raw.special_codes[SpecialCodeIndex::VMIN] = 0;
    raw.special_codes[SpecialCodeIndex::VTIME] = KEY_TENTHS;
    tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
    Ok(before)
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

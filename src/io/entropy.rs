//! The system's entropy.

use crate::app::outside::Entropy;

/// Reads the system's generator.
#[derive(Clone, Copy, Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is where secrets come from")]
    fn fill(&self, bytes: &mut [u8]) {
        // Without it nothing that must not be guessed can be made; on Linux it fails only where the
        // system call does not exist.
        getrandom::fill(bytes).expect("BUG: the system has entropy");
    }
}

impl SystemEntropy {
    /// A seed for chance that need not be secret.
    pub fn seed(self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

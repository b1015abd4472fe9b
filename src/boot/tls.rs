//! The certificate and its key, from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{what} {} cannot be read: {source}; it must be readable for the user that runs holdfast", path.display())]
    Unreadable {
        /// Which of the two.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{what} {} is not PEM of that kind: {why}", path.display())]
    NotPem {
        /// Which of the two.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The two do not fit together.
    #[error("the certificate {} and the key {} cannot be used together: {why}", cert.display(), key.display())]
    Unfit {
        /// The certificate's path.
        cert: PathBuf,
        /// The key's path.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { what, path: path.to_owned(), source };
    std::fs::read(path).map_err(unreadable)
}

/// Reads the files and checks that they fit together. That the key is nobody else's to read is checked
/// before.
pub(super) fn load(tls: &Tls) -> Result<TlsAcceptor, Error> {
    let (cert_what, key_what) = ("the certificate", "the key");
    let bytes = read(cert_what, &tls.cert_file)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&bytes).collect();
    let not_pem =
        |what, path: &Path, why: String| Error::NotPem { what, path: path.to_owned(), why };
    let chain = chain.map_err(|error| not_pem(cert_what, &tls.cert_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(not_pem(cert_what, &tls.cert_file, "it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key_what, &tls.key_file)?)
        .map_err(|error| not_pem(key_what, &tls.key_file, error.to_string()))?;
    let unfit = |error: rustls::Error| Error::Unfit {
        cert: tls.cert_file.clone(),
        key: tls.key_file.clone(),
        why: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

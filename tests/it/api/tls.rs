//! TLS: certificates, keys, and reading them again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use crate::support::{Door, Request, Server, finish, serve, wait_until};

/// Writes a new certificate for localhost and its key; the configuration of a client that trusts it alone.
fn write_certificate(folder: &Path) -> Arc<ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(folder.join("key.pem"), Permissions::from_mode(0o600)).unwrap();
    trusting(made.cert.der())
}

fn trusting(certificate: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn options(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    vec!["--tls-cert-file".into(), file("cert.pem"), "--tls-key-file".into(), file("key.pem")]
}

/// A server with a certificate of its own.
fn start() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let trust = write_certificate(folder.path());
    let options = options(folder.path());
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut server = Server::start_in(folder, "", &options);
    server.speak_tls(trust);
    server
}

#[test]
fn with_a_certificate_tcp_is_encrypted_and_the_socket_is_as_before() {
    let mut server = start();
    for door in [Door::Tcp, Door::Unix] {
        let client = server.client(door);
        let mut connection = client.connect();
        connection.ask(&client.request("GET", "/v1/status")).expect(200);
        connection.ask(&Request::get("/nothing")).expect_problem(404, "unknown_path");
    }
    let run = fs::read_to_string(server.data_dir().join("run.json")).unwrap();
    assert!(run.contains("\"tls\": true"), "{run}");

    // Whoever speaks plainly is not answered.
    let strangers = tempfile::tempdir().unwrap();
    let other = write_certificate(strangers.path());
    let address = server.address();
    let mut plain = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut plain, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut said = Vec::new();
    drop(std::io::Read::read_to_end(&mut plain, &mut said));
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    // And a certificate that nobody vouches for is not trusted.
    server.speak_tls(other);
    let mut connection = server.connect(Door::Tcp);
    connection.try_send(&Request::get("/livez").bytes()).unwrap_err();
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload() {
    let mut server = start();
    let client = server.client(Door::Tcp);
    let mut open = client.connect();
    open.ask(&Request::get("/livez")).expect(200);

    let renewed = write_certificate(server.folder());
    // Nothing happens by itself.
    client.get("/livez").expect(200);
    client.send(&client.request("POST", "/v1/reload")).expect(200);
    open.ask(&Request::get("/livez")).expect(200);
    server.speak_tls(renewed);
    server.client(Door::Tcp).get("/livez").expect(200);

    // The signal does the same; what cannot be used changes nothing.
    let again = write_certificate(server.folder());
    server.signal(Signal::HUP);
    wait_until("the log tells of the reload", || {
        server.log().matches("the settings were read again").count() == 1
    });
    server.speak_tls(again);
    let client = server.client(Door::Tcp);
    client.get("/livez").expect(200);
    fs::write(server.folder().join("cert.pem"), "nonsense").unwrap();
    let answer = client.send(&client.request("POST", "/v1/reload"));
    let problem = answer.expect_problem(422, "invalid_config");
    assert!(problem["problems"][0].as_str().unwrap().contains("cert.pem"), "{problem}");
    client.get("/livez").expect(200);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    drop(write_certificate(folder.path()));
    fs::write(folder.path().join("holdfast.toml"), "").unwrap();
    for mode in [0o644, 0o640, 0o604] {
        let key = folder.path().join("key.pem");
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let mut command = serve(folder.path());
        command.args(options(folder.path()));
        let ran = finish(command, "");
        assert_eq!(ran.code, 78, "{ran:?}");
        let help = format!("chmod 600 {}", key.display());
        assert!(ran.err.contains(&help), "{}", ran.err);
        assert!(!folder.path().join("data").exists(), "nothing was begun");
    }
}

#[test]
fn files_that_are_no_certificate_or_no_key_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holdfast.toml"), "").unwrap();
    let start = || {
        let mut command = serve(folder.path());
        command.args(options(folder.path()));
        let ran = finish(command, "");
        assert_eq!(ran.code, 78, "{ran:?}");
        ran.err
    };
    let missing = start();
    assert!(missing.contains("cert.pem"), "{missing}");
    drop(write_certificate(folder.path()));
    let key = fs::read(folder.path().join("key.pem")).unwrap();
    assert!(PrivateKeyDer::from_pem_slice(&key).is_ok());
    let other = tempfile::tempdir().unwrap();
    drop(write_certificate(other.path()));
    fs::copy(other.path().join("cert.pem"), folder.path().join("cert.pem")).unwrap();
    let unfit = start();
    assert!(unfit.contains("cannot be used together"), "{unfit}");
    fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    assert!(start().contains("key.pem"));
}

//! Full TLS 1.3 handshakes as fast as a few threads can make them: the load of `../nginx.py`.
//!
//! Rust and not Python, and not `openssl s_time`: the client has to cost less than the server, or it
//! would be the client that is measured. So it checks neither certificate nor signature. It does
//! count: a handshake is full (no resumption, no pre-shared key), and it is over only when the server
//! has closed the connection after the client's close_notify, so after the server's last step.
//!
//! `handshakes ADDRESS SECONDS THREADS` prints the number of handshakes and the seconds they took.

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme,
};
use std::error::Error;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

/// Believes everything: the server is the one that is measured.
#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("handshakes ADDRESS SECONDS THREADS");
    let address: SocketAddr = next()?.parse()?;
    let length = Duration::from_secs_f64(next()?.parse()?);
    let threads: usize = next()?.parse()?;
    let mut config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believer))
            .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let begin = Instant::now();
    let count = std::thread::scope(|scope| {
        let load: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| many(&config, address, begin, length)))
            .collect();
        load.into_iter().try_fold(0, |sum, thread| {
            let count = thread.join().map_err(|_| "a thread panicked")??;
            Ok::<_, Failure>(sum + count)
        })
    })?;
    println!("{count} {:.6}", begin.elapsed().as_secs_f64());
    Ok(())
}

fn many(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    begin: Instant,
    length: Duration,
) -> Result<u64, Failure> {
    let mut count = 0;
    while begin.elapsed() < length {
        one(config, address)?;
        count += 1;
    }
    Ok(count)
}

fn one(config: &Arc<ClientConfig>, address: SocketAddr) -> Result<(), Failure> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let mut tls = ClientConnection::new(Arc::clone(config), name)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    if tls.handshake_kind() != Some(HandshakeKind::Full) {
        return Err(format!("no full handshake: {:?}", tls.handshake_kind()).into());
    }
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut tcp)?;
    }
    let mut rest = [0; 1024];
    while tcp.read(&mut rest)? != 0 {}
    Ok(())
}

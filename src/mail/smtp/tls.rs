//! Whom to trust on the way to the mail server.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::config::smtp_url::{Server, TlsPolicy};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authorities' file cannot be read or holds none.
    #[error("mail.smtp.url: ca_file {path}: {reason}", path = .path.display())]
    CaFile {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "no certificate authorities found on this system ({0}); install ca-certificates, or name a PEM file with ?ca_file= in mail.smtp.url"
    )]
    NoRoots(String),
    /// The name to verify is none.
    #[error("mail.smtp.url: `{0}` cannot be the name in a certificate; set ?tls_name=")]
    Name(String),
    /// TLS versions and ciphers do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Protocol(#[from] rustls::Error),
}

/// What a connection needs to become an encrypted one.
#[derive(Clone)]
pub(super) struct Tls {
    pub connector: TlsConnector,
    pub name: ServerName<'static>,
}

impl Tls {
    /// `None` for `tls=none`. Reads the trusted authorities from disk.
    pub fn of(server: &Server) -> Result<Option<Self>, TlsError> {
        if server.tls == TlsPolicy::None {
            return Ok(None);
        }
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let config = if server.verifies() {
            builder.with_root_certificates(roots(server)?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        };
        let name = server.tls_name.as_ref().unwrap_or(&server.host);
        let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name.clone()))?;
        Ok(Some(Self { connector: TlsConnector::from(Arc::new(config.with_no_client_auth())), name }))
    }
}

fn roots(server: &Server) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &server.ca_file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = found.errors.first().map_or_else(|| "none at all".to_owned(), ToString::to_string);
            return Err(TlsError::NoRoots(reason));
        }
        return Ok(roots);
    };
    let fault = |reason: String| TlsError::CaFile { path: path.clone(), reason };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("it holds no PEM certificate".to_owned()));
    }
    Ok(roots)
}

/// Encryption without proof of identity, for opportunistic TLS only (RFC 7435): mail servers' certificates are often
/// self-signed, and the alternative there is no encryption at all.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

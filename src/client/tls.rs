//! TLS that trusts one cluster's authority and nothing else.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("the certificate of the cluster's authority can't be read")]
    Authority(#[source] rustls::pki_types::pem::Error),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

/// For reqwest's preconfigured TLS.
pub fn trusting(authority_pem: &str) -> Result<rustls::ClientConfig, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
        roots.add(certificate.map_err(TlsError::Authority)?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

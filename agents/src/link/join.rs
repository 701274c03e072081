//! Becoming a node: the agent makes its own key, sends a request for a certificate, and checks
//! that the answer comes from the CA that the token names.

use std::collections::BTreeMap;

use kgit_protocol::assignment::PodNetwork;
use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::messages::{Join, Joined, PROTOCOL_VERSION, Renew};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::parse_x509_certificate;

use crate::link::https::HttpsLink;
use crate::link::token::JoinToken;
use crate::link::{Answer, LinkError};

/// Certificates are renewed once two thirds of their life are over.
const RENEW_AFTER: i64 = 2;
const RENEW_OF: i64 = 3;

/// What a node says of itself when it asks to join, for the first time or again.
#[derive(Clone)]
pub struct Application {
    pub node: NodeName,
    /// Its private key in PEM.
    pub key: String,
    pub labels: BTreeMap<String, String>,
    pub network: PodNetwork,
    /// Without one the certificate has to do.
    pub token: Option<JoinToken>,
}

/// Without the secrets in it.
impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Application({})", self.node)
    }
}

impl Application {
    pub(super) fn request(&self) -> Answer<Join> {
        let token = self.token.as_ref().map(|token| token.secret.clone());
        Ok(Join {
            version: PROTOCOL_VERSION,
            token: token.unwrap_or_default(),
            node: self.node.clone(),
            labels: self.labels.clone(),
            certificate_request: certificate_request(&self.key, &self.node)?,
            network: self.network,
        })
    }
}

/// A new private key in PEM.
pub fn new_key() -> Answer<String> {
    KeyPair::generate().map(|pair| pair.serialize_pem()).map_err(bad)
}

/// Joins the cluster that the application's token names.
pub async fn join(url: &str, application: &Application) -> Answer<Joined> {
    let token = application.token.as_ref().ok_or(LinkError::Token("there is none"))?;
    let request = application.request()?;
    let joined = HttpsLink::to_join(url, &token.authority)?.join(&request).await?;
    let authority = CertificateDer::from_pem_slice(joined.authority.as_bytes())
        .map_err(|error| LinkError::Nonsense(error.to_string()))?;
    if Digest::of(&authority) != token.authority {
        return Err(LinkError::Nonsense("it names another CA than the token".to_owned()));
    }
    Ok(joined)
}

/// Asks for a new certificate for the same key. The old one is not shown: it may have run out.
pub async fn renew(url: &str, authority: &str, key: &str, node: &NodeName) -> Answer<Joined> {
    let authority = CertificateDer::from_pem_slice(authority.as_bytes())
        .map_err(|error| LinkError::Certificate(error.to_string()))?;
    let request = Renew {
        version: PROTOCOL_VERSION,
        node: node.clone(),
        certificate_request: certificate_request(key, node)?,
    };
    HttpsLink::to_join(url, &Digest::of(&authority))?.renew(&request).await
}

fn certificate_request(key: &str, node: &NodeName) -> Answer<String> {
    let pair = KeyPair::from_pem(key).map_err(bad)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    params.serialize_request(&pair).and_then(|request| request.pem()).map_err(bad)
}

fn bad(error: rcgen::Error) -> LinkError {
    LinkError::Certificate(error.to_string())
}

/// Seconds until the certificate is to be renewed; 0 if that is due.
pub fn renewal_due_in(certificate: &str, now_seconds: i64) -> Answer<u64> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| LinkError::Certificate(error.to_string()))?;
    let (_, parsed) =
        parse_x509_certificate(&der).map_err(|error| LinkError::Certificate(error.to_string()))?;
    let from = parsed.validity().not_before.timestamp();
    let until = parsed.validity().not_after.timestamp();
    let due = from + (until - from) / RENEW_OF * RENEW_AFTER;
    Ok(u64::try_from(due - now_seconds).unwrap_or(0))
}

//! The cluster's certificate authority: made at the first start, kept in `<data>/pki/`, and the
//! one root that agents, `kgit` and `kubectl` trust.
//!
//! What does not live here: who may have a certificate (`api::agent` decides) and tokens
//! (`api::auth`).

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The authority outlives the machines that it vouches for.
const AUTHORITY_YEARS: i16 = 20;
/// The server's certificate is made anew at each start; long enough for the longest uptime.
const SERVER_YEARS: i16 = 5;
/// A node renews long before; a node that was away for longer proves its key instead.
const NODE_YEARS: i16 = 1;

/// Signs for the cluster. Holds the private key; its `Debug` shows the digest only.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("read or write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a certificate or key that kgit wrote; restore it from a backup")]
    Damaged {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("`{name}` can't be a name of the server")]
    Name {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("make a key or certificate")]
    Make(#[from] rcgen::Error),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("set up the verification of agents")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate request whose signature was checked: its sender holds the key.
#[derive(Debug)]
pub struct NodeRequest {
    request: CertificateSigningRequestParams,
    /// The digest of the public key: the node's identity.
    pub key_digest: Digest,
}

/// Who a verified client certificate belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    pub node: NodeName,
    pub key_digest: Digest,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.digest().short())
    }
}

impl Authority {
    /// Reads the authority from `pki`, or makes one if there is none.
    pub fn open(pki: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let (certificate_path, key_path) = (pki.join("ca.crt"), pki.join("ca.key"));
        if !certificate_path.exists() {
            create(pki, &certificate_path, &key_path, now)?;
        }
        let pem = read(&certificate_path)?;
        let key = KeyPair::from_pem(&read(&key_path)?)
            .map_err(|source| AuthorityError::Damaged { path: key_path, source })?;
        let damaged = |source| AuthorityError::Damaged { path: certificate_path.clone(), source };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| damaged(rcgen::Error::CouldNotParseCertificate))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(damaged)?;
        Ok(Self { issuer, certificate, pem })
    }

    /// SHA-256 of the authority's certificate: what a token carries, so that nobody has to trust
    /// a server at first use.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS for the listener: a fresh server certificate for `names` (and the names that this
    /// machine always has), and verification of agents that present a certificate.
    pub fn server_config(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<Arc<rustls::ServerConfig>, AuthorityError> {
        let key = KeyPair::generate()?;
        let leaf = server_params(names, now)?.signed_by(&key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));

        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        // Upgrades (exec, port-forward) come on HTTP/1.1; everything else is happier on HTTP/2.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Signs a certificate for `node`. Nothing that the request asks for is taken over but its
    /// key: the name comes from the caller, who checked it.
    pub fn sign_node(
        &self,
        node: &NodeName,
        request: &NodeRequest,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(node.as_str());
        set_validity(&mut params, now, NODE_YEARS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&request.request.public_key, &self.issuer)?.pem())
    }
}

impl NodeRequest {
    /// Reads a PKCS#10 request in PEM and checks its signature.
    pub fn read(pem: &str) -> Result<Self, rcgen::Error> {
        let request = CertificateSigningRequestParams::from_pem(pem)?;
        let key_digest = Digest::of(request.public_key.der_bytes());
        Ok(Self { request, key_digest })
    }
}

impl NodeIdentity {
    /// Reads the identity out of a certificate that the TLS layer has verified. `None` if it is
    /// not one that [`Authority::sign_node`] made.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let node = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        let key = &parsed.tbs_certificate.subject_pki.subject_public_key.data;
        Some(Self { node: NodeName::new(node), key_digest: Digest::of(key) })
    }
}

fn create(
    pki: &Path,
    certificate_path: &Path,
    key_path: &Path,
    now: Timestamp,
) -> Result<(), AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("kgit cluster authority");
    set_validity(&mut params, now, AUTHORITY_YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;

    let failed = |source| AuthorityError::File { path: pki.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(pki).map_err(failed)?;
    // The key goes first: a certificate without its key would look like an authority.
    write_private(key_path, key.serialize_pem().as_bytes())?;
    write_private(certificate_path, certificate.pem().as_bytes())
}

fn server_params(names: &[String], now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("kgit");
    set_validity(&mut params, now, SERVER_YEARS);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let own = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let all = names.iter().cloned().chain(own.map(str::to_owned)).chain([hostname]);
    for name in all.filter(|name| !name.is_empty()) {
        let san = subject_name(&name)?;
        if !params.subject_alt_names.contains(&san) {
            params.subject_alt_names.push(san);
        }
    }
    Ok(params)
}

fn subject_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name_error = |source| AuthorityError::Name { name: name.to_owned(), source };
    Ok(SanType::DnsName(name.to_owned().try_into().map_err(name_error)?))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets the days between which a certificate holds: from the day before, so that a clock that is
/// behind does not refuse it.
fn set_validity(params: &mut CertificateParams, now: Timestamp, years: i16) {
    let today = now.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
    let [from, to] = [jiff::Span::new().days(-1), jiff::Span::new().years(years)].map(|span| {
        let date = today.saturating_add(span);
        rcgen::date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    });
    (params.not_before, params.not_after) = (from, to);
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path)
        .map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

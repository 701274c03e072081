//! Joining and talking over real TLS, with a master of a few lines.
#![allow(clippy::disallowed_methods, reason = "the certificates are made now")]

use std::collections::BTreeMap;
use std::sync::Arc;

use kgit_agent::link::https::HttpsLink;
use kgit_agent::link::join::{Application, join, new_key, renew, renewal_due_in};
use kgit_agent::link::token::JoinToken;
use kgit_agent::link::{Link as _, LinkError};
use kgit_protocol::assignment::PodNetwork;
use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::messages::{Heartbeat, Join, Joined, PROTOCOL_VERSION, Renew};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        let (pem, der) = (cert.pem(), cert.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    fn token(&self) -> JoinToken {
        JoinToken::parse(&format!("kgit1.{}.t.secret", Digest::of(&self.der))).unwrap()
    }
}

/// A master that lets anybody join who knows the secret; its address.
async fn master(authority: Arc<Authority>, name: &str) -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &authority.issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![leaf.der().clone(), authority.der.clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let known = stream.get_ref().1.peer_certificates().is_some();
            let mut request = vec![0; 65536];
            let mut length = 0;
            // Small requests: head and body come whole within a few reads.
            let body = loop {
                length += stream.read(&mut request[length..]).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let wanted = head
                        .lines()
                        .find_map(|line| {
                            line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
                        })
                        .unwrap_or(0);
                    if body.len() >= wanted {
                        break (head.to_owned(), body.to_owned());
                    }
                }
            };
            let (status, answer) = respond(&authority, known, &body.0, &body.1);
            let text = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    format!("https://{name}:{port}")
}

fn respond(authority: &Authority, known: bool, head: &str, body: &str) -> (String, String) {
    let refuse = |reason: &str| {
        ("403 Forbidden".to_owned(), format!(r#"{{"reason":"{reason}","message":"no"}}"#))
    };
    let sign = |node: NodeName, request: &str| {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let joined = Joined {
            cluster: "0123456789abcdef".into(),
            node,
            certificate: request.signed_by(&authority.issuer).unwrap().pem(),
            authority: authority.pem.clone(),
        };
        ("200 OK".to_owned(), serde_json::to_string(&joined).unwrap())
    };
    if head.starts_with("POST /agent/v1/join ") {
        let join: Join = serde_json::from_str(body).unwrap();
        return match join.token == "t.secret" || known {
            true => sign(join.node, &join.certificate_request),
            false => refuse("BadToken"),
        };
    }
    if head.starts_with("POST /agent/v1/renew ") {
        let renew: Renew = serde_json::from_str(body).unwrap();
        return match known {
            true => refuse("OldCertificateShown"),
            false => sign(renew.node, &renew.certificate_request),
        };
    }
    if known { ("200 OK".to_owned(), r#"{"seconds":40}"#.to_owned()) } else { refuse("WhoAreYou") }
}

fn application(token: JoinToken, key: &str) -> Application {
    let network = PodNetwork { range: "10.50.1.0/24".parse().unwrap() };
    let (key, token) = (key.to_owned(), Some(token));
    Application { node: "n1".into(), key, labels: BTreeMap::new(), network, token }
}

#[tokio::test]
async fn a_node_joins_by_its_token_and_is_known_by_its_certificate() {
    let authority = Arc::new(Authority::new());
    let url = master(Arc::clone(&authority), "localhost").await;
    let key = new_key().unwrap();
    let joined = join(&url, &application(authority.token(), &key)).await.unwrap();
    assert!(renewal_due_in(&joined.certificate, 0).unwrap() > 0);
    let link = HttpsLink::new(&url, &joined.authority, &joined.certificate, &key).unwrap();
    let beat = Heartbeat { version: PROTOCOL_VERSION, boot: "b".into() };
    assert_eq!(link.heartbeat(&beat).await.unwrap().seconds, 40);
}

#[tokio::test]
async fn a_certificate_that_may_have_run_out_is_not_shown_to_renew_it() {
    let authority = Arc::new(Authority::new());
    let url = master(Arc::clone(&authority), "localhost").await;
    let key = new_key().unwrap();
    let joined = join(&url, &application(authority.token(), &key)).await.unwrap();
    let renewed = renew(&url, &joined.authority, &key, &joined.node).await.unwrap();
    assert!(renewal_due_in(&renewed.certificate, 0).unwrap() > 0);
}

#[tokio::test]
async fn one_that_is_no_member_any_more_asks_again_with_its_certificate() {
    let authority = Arc::new(Authority::new());
    let url = master(Arc::clone(&authority), "localhost").await;
    let key = new_key().unwrap();
    let first = application(authority.token(), &key);
    let joined = join(&url, &first).await.unwrap();
    let link = HttpsLink::new(&url, &joined.authority, &joined.certificate, &key).unwrap();
    assert!(link.join_again().await.is_err(), "it was not said what it is");
    let link = link.applying(Application { token: None, ..first });
    link.join_again().await.unwrap();
}

#[tokio::test]
async fn a_master_with_another_ca_or_name_is_not_told_the_token() {
    let authority = Arc::new(Authority::new());
    let key = new_key().unwrap();
    let url = master(Arc::new(Authority::new()), "localhost").await;
    let other = join(&url, &application(authority.token(), &key)).await;
    assert!(matches!(other, Err(LinkError::Unreachable(_))), "{other:?}");
    let url = master(Arc::clone(&authority), "elsewhere.example").await;
    let url = url.replace("elsewhere.example", "localhost");
    let named = join(&url, &application(authority.token(), &key)).await;
    assert!(matches!(named, Err(LinkError::Unreachable(_))), "{named:?}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_masters_words() {
    let authority = Arc::new(Authority::new());
    let url = master(Arc::clone(&authority), "localhost").await;
    let mut token = authority.token();
    token.secret = "t.wrong".to_owned();
    let key = new_key().unwrap();
    let refused = join(&url, &application(token, &key)).await;
    match refused {
        Err(LinkError::Refused { reason, .. }) => assert_eq!(reason, "BadToken"),
        other => panic!("{other:?}"),
    }
}

//! An agent's life over real TLS: join, pull, renew, and what it may not do.

use std::sync::Arc;

use kgit_protocol::assignment::{PodNetwork, Stamp};
use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::messages::{Join, Joined, Leave, Orders, Pull, Pulled, Refusal, Renew};
use kgit_protocol::time::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::api::fixture::{Server, empty_world, node, stamp};
use crate::domain::standing::Departed;
use crate::domain::token::Role;
use crate::domain::world::{Effect, Record, Table, departed_key, node_key};

struct Agent {
    name: NodeName,
    key: KeyPair,
}

impl Agent {
    fn new(name: &str) -> Self {
        Self { name: NodeName::new(name), key: KeyPair::generate().unwrap() }
    }

    fn request(&self) -> String {
        let params = CertificateParams::default();
        params.serialize_request(&self.key).unwrap().pem().unwrap()
    }

    async fn join(&self, server: &Server, token: &str) -> Result<Joined, Refusal> {
        self.join_by(&server.client(), server, token).await
    }

    async fn join_by(
        &self,
        client: &reqwest::Client,
        server: &Server,
        token: &str,
    ) -> Result<Joined, Refusal> {
        let join = Join {
            version: 1,
            token: token.to_owned(),
            node: self.name.clone(),
            labels: Default::default(),
            certificate_request: self.request(),
            network: PodNetwork { range: "10.42.0.0/24".parse().unwrap() },
        };
        post(client, &server.url("/agent/v1/join"), &join).await
    }

    fn client(&self, server: &Server, joined: &Joined) -> reqwest::Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(joined.authority.as_bytes()).unwrap()).unwrap();
        let own = CertificateDer::from_pem_slice(joined.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], key)
            .unwrap();
        assert_eq!(joined.authority, server.authority_pem);
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
    }
}

async fn post<A: serde::de::DeserializeOwned>(
    client: &reqwest::Client,
    url: &str,
    body: &impl serde::Serialize,
) -> Result<A, Refusal> {
    let response = client.post(url).json(body).send().await.unwrap();
    match response.status().is_success() {
        true => Ok(response.json().await.unwrap()),
        false => Err(response.json().await.unwrap()),
    }
}

async fn commit(server: &Server, effects: Vec<Effect>) {
    let mut versions = server.api.master.versions();
    versions.borrow_and_update();
    server.commits.send(effects).await.unwrap();
    versions.changed().await.unwrap();
}

fn pull(have: Option<u64>, wait_seconds: u32) -> Pull {
    Pull { version: 1, have: have.map(stamp), directory: None, wait_seconds, audit_witness: None }
}

/// One that joined, and how it calls.
async fn member() -> (Server, Agent, reqwest::Client) {
    let server = Server::start(empty_world()).await;
    let token = server.token("rack", Role::Join, Some(1));
    let agent = Agent::new("a");
    let joined = agent.join(&server, &token).await.unwrap();
    let client = agent.client(&server, &joined);
    (server, agent, client)
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_is_known_by_its_certificate_from_then_on() {
    let server = Server::start(empty_world()).await;
    let token = server.token("rack", Role::Join, Some(1));
    let agent = Agent::new("a");
    let joined = agent.join(&server, &token).await.unwrap();
    assert_eq!(joined.node, agent.name);
    let client = agent.client(&server, &joined);
    let url = server.url("/agent/v1/pull");
    let pulled: Pulled = post(&client, &url, &pull(None, 5)).await.unwrap();
    let Orders::Set(set) = pulled.orders else { panic!("{pulled:?}") };
    assert_eq!(set.stamp, stamp(1));
    let unchanged: Pulled = post(&client, &url, &pull(Some(1), 0)).await.unwrap();
    assert_eq!(unchanged.orders, Orders::Unchanged);
}

#[tokio::test]
async fn a_waiting_pull_is_answered_when_a_later_set_is_issued() {
    let (server, agent, client) = member().await;
    let url = server.url("/agent/v1/pull");
    let waiting = tokio::spawn(async move { post(&client, &url, &pull(Some(1), 30)).await });
    let known = server.api.master.view().world.nodes.get(&node_key(&agent.name)).unwrap().clone();
    let mut later = node("a", known.key_digest.clone());
    later.issued = stamp(2);
    let effect = Effect::Put(node_key(&agent.name), Record::Node(Arc::new(later)));
    server.commits.send(vec![effect]).await.unwrap();
    let pulled: Pulled = waiting.await.unwrap().unwrap();
    let Orders::Set(set) = pulled.orders else { panic!("{pulled:?}") };
    assert_eq!(set.stamp, stamp(2));
}

#[tokio::test]
async fn a_single_use_token_joins_one_node_and_a_name_belongs_to_its_key() {
    let server = Server::start(empty_world()).await;
    let token = server.token("rack", Role::Join, Some(1));
    let agent = Agent::new("a");
    agent.join(&server, &token).await.unwrap();
    let again = Agent::new("b").join(&server, &token).await.unwrap_err();
    assert_eq!(again.reason, "TokenRefused");
    let fresh = server.token("rack", Role::Join, Some(1));
    let other = Agent::new("a").join(&server, &fresh).await.unwrap_err();
    assert_eq!(other.reason, "NameTaken");
    let api = server.token("ann", Role::Admin, None);
    assert_eq!(Agent::new("c").join(&server, &api).await.unwrap_err().reason, "TokenRefused");
}

#[tokio::test]
async fn a_node_whose_answer_was_lost_joins_again_with_the_token_that_it_has_spent() {
    let server = Server::start(empty_world()).await;
    let token = server.token("rack", Role::Join, Some(1));
    let agent = Agent::new("a");
    agent.join(&server, &token).await.unwrap();
    agent.join(&server, &token).await.unwrap();
    let other = Agent::new("b").join(&server, &token).await.unwrap_err();
    assert_eq!(other.reason, "TokenRefused");
}

#[tokio::test]
async fn only_the_key_that_joined_is_given_a_new_certificate() {
    let server = Server::start(empty_world()).await;
    let token = server.token("rack", Role::Join, Some(1));
    let agent = Agent::new("a");
    agent.join(&server, &token).await.unwrap();
    let url = server.url("/agent/v1/renew");
    let renew = |agent: &Agent| Renew {
        version: 1,
        node: NodeName::new("a"),
        certificate_request: agent.request(),
    };
    let renewed: Joined = post(&server.client(), &url, &renew(&agent)).await.unwrap();
    assert_eq!(renewed.node, agent.name);
    let refused = post::<Joined>(&server.client(), &url, &renew(&Agent::new("a"))).await;
    assert_eq!(refused.unwrap_err().reason, "NotAMember");
}

#[tokio::test]
async fn a_certificate_of_a_node_that_was_replaced_or_none_at_all_is_refused() {
    let server = Server::start(empty_world()).await;
    let token = server.token("rack", Role::Join, Some(1));
    let agent = Agent::new("a");
    let joined = agent.join(&server, &token).await.unwrap();
    let url = server.url("/agent/v1/pull");
    let stranger = post::<Pulled>(&server.client(), &url, &pull(None, 0)).await.unwrap_err();
    assert_eq!(stranger.reason, "Unauthorized");

    let replaced = node("a", Digest::of(b"another key"));
    let effect = Effect::Put(node_key(&agent.name), Record::Node(Arc::new(replaced)));
    commit(&server, vec![effect]).await;
    let client = agent.client(&server, &joined);
    let refused = post::<Pulled>(&client, &url, &pull(None, 0)).await.unwrap_err();
    assert_eq!(refused.reason, "NotAMember");
}

#[tokio::test]
async fn a_node_that_no_record_tells_of_joins_again_by_its_certificate_alone() {
    let (server, agent, client) = member().await;
    commit(&server, vec![Effect::Remove(node_key(&agent.name), Table::Node)]).await;
    let url = server.url("/agent/v1/pull");
    let refused = post::<Pulled>(&client, &url, &pull(Some(1), 0)).await.unwrap_err();
    assert_eq!(refused.reason, "NotAMember");
    assert_eq!(agent.join(&server, "").await.unwrap_err().reason, "TokenRefused");
    let other = Agent::new("a").join_by(&client, &server, "").await.unwrap_err();
    assert_eq!(other.reason, "TokenRefused", "the certificate is for another key");
    agent.join_by(&client, &server, "").await.unwrap();
    post::<Pulled>(&client, &url, &pull(Some(1), 0)).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_was_taken_out_is_told_to_run_nothing_and_needs_a_new_token() {
    let (server, agent, client) = member().await;
    let key = server.api.master.view().world.nodes[&node_key(&agent.name)].key_digest.clone();
    let issued = Stamp { digest: Digest::of(b"nothing to run"), ..stamp(2) };
    let departed = Departed { node: agent.name.clone(), at: Timestamp(0), issued: issued.clone() };
    let effects = vec![
        Effect::Remove(node_key(&agent.name), Table::Node),
        Effect::Put(departed_key(&key), Record::Departed(Arc::new(departed))),
    ];
    commit(&server, effects).await;
    let url = server.url("/agent/v1/pull");
    let pulled: Pulled = post(&client, &url, &pull(Some(1), 0)).await.unwrap();
    let Orders::Set(set) = pulled.orders else { panic!("{pulled:?}") };
    assert!(set.stamp == issued && set.pods.is_empty() && !set.keep_others);
    let refused = post::<Pulled>(&client, &url, &Pull { have: Some(issued), ..pull(None, 0) })
        .await
        .unwrap_err();
    assert_eq!(refused.reason, "NodeRemoved");
    let refused = agent.join_by(&client, &server, "").await.unwrap_err();
    assert_eq!(refused.reason, "NodeRemoved");
    let leave = client.post(server.url("/agent/v1/leave")).json(&Leave { version: 1 });
    assert!(leave.send().await.unwrap().status().is_success(), "it has left");
    let fresh = server.token("rack", Role::Join, Some(1));
    agent.join_by(&client, &server, &fresh).await.unwrap();
}

#[tokio::test]
async fn another_version_of_the_protocol_is_named_and_refused() {
    let server = Server::start(empty_world()).await;
    let renew = Renew { version: 2, node: NodeName::new("a"), certificate_request: String::new() };
    let url = server.url("/agent/v1/renew");
    let refused = post::<Joined>(&server.client(), &url, &renew).await.unwrap_err();
    assert_eq!(refused.reason, "UnknownVersion");
}

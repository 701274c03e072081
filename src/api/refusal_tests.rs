//! What is refused before anyone looks at what is asked for: without credentials, too large, too many.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};

use crate::api::fixture::Server;
use crate::api::limit::ClientKey;
use crate::api::listener::MAX_HEAD_BYTES;
use crate::domain::token::Role;
use crate::kube::fixture::world;
use crate::kube::resource_type::SERVED;

/// The sources that name routes, with the path that each is nested under: a route that is added is
/// walked without anyone's remembering it here.
const ROUTES: [(&str, &str); 4] = [
    ("", include_str!("router.rs")),
    ("", include_str!("kube/mod.rs")),
    ("/kgit/v1", include_str!("kgit/mod.rs")),
    ("/agent/v1", include_str!("agent/mod.rs")),
];
/// They take no credentials; an agent without a certificate brings a join token in the body.
const OPEN: [&str; 5] = ["/healthz", "/livez", "/readyz", "/agent/v1/join", "/agent/v1/renew"];

/// Every path that is routed, its parameters filled in.
fn routed() -> Vec<String> {
    let mut paths = Vec::new();
    for (root, source) in ROUTES {
        for route in source.split(".route(").skip(1) {
            let (function, rest) = route.split_once('"').unwrap();
            let (path, _) = rest.split_once('"').unwrap();
            paths.push(match function {
                "" => format!("{root}{path}"),
                "&of_pod(" => format!("/api/v1/namespaces/default/pods/lonely/{path}"),
                "&of_service(" => format!("/api/v1/namespaces/default/services/web/{path}"),
                other => panic!("a route by {other}"),
            });
        }
    }
    for ty in &SERVED {
        let all = ty.path(Some("default"));
        paths.extend([format!("{all}/web"), format!("{all}/web/status"), all]);
    }
    paths.iter().map(|path| path.replace("{*", "{").replace(['{', '}'], "")).collect()
}

#[tokio::test]
async fn no_route_but_the_health_checks_answers_without_credentials() {
    let server = Server::start(world()).await;
    let client = server.client();
    let join = server.token("rack", Role::Join, Some(1));
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let paths = routed();
    assert!(OPEN.iter().all(|open| paths.iter().any(|path| path == open)), "{paths:?}");
    for path in paths.iter().filter(|path| !OPEN.contains(&path.as_str())) {
        for method in &methods {
            let answer = client.request(method.clone(), server.url(path)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
        }
        for token in ["kgit1.a.b.c", &join] {
            let answer = client.get(server.url(path)).bearer_auth(token).send().await.unwrap();
            assert!([401, 403].contains(&answer.status().as_u16()), "{path}: {answer:?}");
        }
    }
    for open in ["/agent/v1/join", "/agent/v1/renew"] {
        let answer = client.post(server.url(open)).json(&()).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{open}: {}", answer.status());
    }
}

#[tokio::test]
async fn the_head_of_a_request_has_a_limit_in_both_versions_of_the_protocol() {
    let server = Server::start(world()).await;
    let limit = MAX_HEAD_BYTES as usize;
    for client in [server.client(), server.client_of_http1()] {
        let send = |bytes: usize| {
            let request = client.get(server.url("/healthz")).header("x-large", "x".repeat(bytes));
            request.send()
        };
        assert_eq!(send(limit / 2).await.unwrap().status(), StatusCode::OK);
        let refused = match send(limit + 1).await {
            Ok(answer) => answer.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Err(error) => error.is_request(),
        };
        assert!(refused);
        assert_eq!(send(0).await.unwrap().status(), StatusCode::OK, "others go on");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let server = Server::start(world()).await;
    let client = server.client();
    let health = || client.get(server.url("/healthz")).send();
    assert_eq!(health().await.unwrap().status(), StatusCode::OK);
    // Used up a while ahead, so that nothing comes back meanwhile.
    let ahead = Instant::now() + Duration::from_secs(3600);
    let here = || ClientKey::Address(server.address.ip());
    while server.api.limiter.admit(here(), ahead) {}
    let answer = health().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "1");
    let status: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(status["reason"], "TooManyRequests");
}

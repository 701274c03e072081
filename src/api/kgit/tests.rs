//! kgit's own endpoints, over TLS, by role.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::fixture::Server;
use crate::domain::token::Role;
use crate::kube::fixture::world;

async fn call(server: &Server, role: Role, method: Method, path: &str, body: Value) -> Value {
    let token = server.token("ann", role, None);
    let request = server.client().request(method, server.url(path)).bearer_auth(token);
    request.json(&body).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn the_status_names_what_is_not_healthy_and_where_it_is_written() {
    let server = Server::start(world()).await;
    let status = call(&server, Role::Read, Method::GET, "/kgit/v1/status", json!({})).await;
    let objects = status["objects"].as_array().unwrap();
    let web = objects.iter().find(|line| line["place"] == "apps/web.yaml:1:1").unwrap();
    assert_eq!(web["health"], "Progressing");
    assert_eq!(web["detail"], "2/3 ready, CrashLoopBackOff");
    assert_eq!(status["nodes"][0]["pods"], 3);
}

#[tokio::test]
async fn a_token_is_made_used_and_revoked_by_an_admin_only() {
    let server = Server::start(world()).await;
    let path = "/kgit/v1/tokens";
    let wanted = json!({"version": 1, "name": "bob", "role": "read"});
    let refused = call(&server, Role::Write, Method::POST, path, wanted.clone()).await;
    assert_eq!(refused["code"], 403);
    let created = call(&server, Role::Admin, Method::POST, path, wanted).await;
    let bob = created["token"].as_str().unwrap().to_owned();
    let status = async || {
        let request = server.client().get(server.url("/kgit/v1/status")).bearer_auth(&bob);
        request.send().await.unwrap().status()
    };
    assert_eq!(status().await, 200);
    let path = format!("{path}/{}", created["id"].as_str().unwrap());
    call(&server, Role::Admin, Method::DELETE, &path, json!({})).await;
    assert_eq!(status().await, 401);
}

#[tokio::test]
async fn an_uploaded_tree_is_forecast_and_one_that_leaves_its_root_is_refused() {
    let server = Server::start(world()).await;
    let tree = |path: &str| json!({"version": 1, "files": [{"path": path, "content": "YQ=="}]});
    let diff = async |body| call(&server, Role::Read, Method::POST, "/kgit/v1/diff", body).await;
    assert_eq!(diff(tree("web.yaml")).await["text"], "1 files\n");
    assert_eq!(diff(tree("../web.yaml")).await["code"], 400);
    let path = "/kgit/v1/diff?rev=nope";
    let refused = call(&server, Role::Read, Method::GET, path, json!({})).await;
    assert_eq!(refused["message"], "there is no commit `nope`");
}

#[tokio::test]
async fn orders_take_the_role_that_they_need() {
    let server = Server::start(world()).await;
    let body = json!({"version": 1, "plan": "p1"});
    let path = "/kgit/v1/approve";
    let refused = call(&server, Role::Read, Method::POST, path, body.clone()).await;
    assert_eq!(refused["code"], 403);
    let approved = call(&server, Role::Write, Method::POST, path, body).await;
    assert_eq!(approved["message"], "ann approved p1");
    let token = server.token("root", Role::Admin, None);
    let request = server.client().get(server.url("/kgit/v1/backup")).bearer_auth(token);
    assert_eq!(request.send().await.unwrap().bytes().await.unwrap(), "a backup");
}

#[tokio::test]
async fn why_of_what_never_was_is_an_error() {
    let server = Server::start(world()).await;
    let why = async |name: &str| {
        let path = format!("/kgit/v1/why/deployments/default/{name}");
        call(&server, Role::Read, Method::GET, &path, json!({})).await
    };
    assert_eq!(why("web").await["object"]["name"], "web");
    let refused = why("wbe").await;
    assert_eq!(refused["code"], 404);
    let message = "there is no Deployment/default/wbe, and the audit log names no step about it";
    assert_eq!(refused["message"], message);
}

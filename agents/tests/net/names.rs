//! Names, asked for over real sockets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use serde_json::json;

use crate::lab::{GATEWAY, HOST, Lab, OUTSIDE, endpoint, pod, service};

fn question(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    query
}

/// Asks over UDP, once.
pub fn lookup(lab: &Lab, place: &str, server: &str, name: &str) -> std::io::Result<Message> {
    let bytes = question(name, RecordType::A).to_vec().unwrap();
    let server = format!("{server}:53");
    lab.within(place, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect(server)?;
        socket.send(&bytes)?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer)?;
        Ok(Message::from_vec(&buffer[..length]).unwrap())
    })
}

pub fn address_of(lab: &Lab, place: &str, server: &str, name: &str) -> Option<Ipv4Addr> {
    addresses(&lookup(lab, place, server, name).ok()?).first().copied()
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let data = message.answers.iter().map(|record| &record.data);
    data.filter_map(|data| match data {
        RData::A(address) => Some(address.0),
        _ => None,
    })
    .collect()
}

fn over_stream(lab: &Lab, place: &str, name: &str) -> Message {
    let bytes = question(name, RecordType::A).to_vec().unwrap();
    lab.within(place, move || {
        let mut stream = TcpStream::connect((GATEWAY, 53)).unwrap();
        stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    })
}

/// A name server outside that knows one name.
fn upstream(lab: &Lab) {
    let socket = lab.within(OUTSIDE, || UdpSocket::bind("0.0.0.0:53").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let asked = query.queries[0].clone();
            match asked.name().to_ascii().as_str() {
                "www.example.com." => {
                    let data = RData::A(rdata::A::new(203, 0, 113, 9));
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 60, data));
                }
                _ => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            answer.add_query(asked);
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_cluster_and_of_the_world_are_answered() {
    let Some(mut lab) = Lab::new("dns") else { return };
    upstream(&lab);
    lab.pod(5, true, false);
    lab.pod(6, true, false);
    lab.list("web", service("10.96.0.10", &[5]));
    let mut first = endpoint(5, 5432);
    first["hostname"] = json!("db-0");
    lab.list(
        "db",
        json!({
            "address": "Headless", "ports": [{ "name": "sql", "port": 5432 }],
            "backend": { "Endpoints": [first, endpoint(6, 5432)] },
        }),
    );
    let far =
        json!({ "address": { "ExternalName": "www.example.com" }, "backend": { "Endpoints": [] } });
    lab.list("far", far);
    lab.begin().await;
    let found = |name: &str| address_of(&lab, "p6", GATEWAY, name).map(|found| found.to_string());
    let domain = "default.svc.cluster.local";
    assert_eq!(found(&format!("web.{domain}")).as_deref(), Some("10.96.0.10"));
    assert_eq!(found(&format!("db-0.db.{domain}")), Some(pod(5)));
    assert_eq!(found("www.example.com").as_deref(), Some("203.0.113.9"));
    assert_eq!(found(&format!("far.{domain}")).as_deref(), Some("203.0.113.9"));
    let both = lookup(&lab, HOST, GATEWAY, &format!("db.{domain}")).unwrap();
    assert_eq!(addresses(&both).len(), 2);
    let missing = lookup(&lab, "p6", GATEWAY, &format!("nobody.{domain}")).unwrap();
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(addresses(&over_stream(&lab, "p6", &format!("web.{domain}"))).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_and_services_work_all_the_same() {
    let Some(mut lab) = Lab::new("taken") else { return };
    let _other = lab.within(HOST, || UdpSocket::bind("0.0.0.0:53").unwrap());
    lab.serve("p5", 8080, "five");
    lab.pod(5, true, false);
    lab.list("web", service("10.96.0.10", &[5]));
    lab.start();
    let applied = lab.feed().await;
    assert_eq!(applied.names.unwrap().reason, "DnsPortTaken");
    assert!(lab.ask("p6", "10.96.0.10", 80).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_upstream_outside_names_fail_and_the_clusters_do_not() {
    let Some(mut lab) = Lab::new("alone") else { return };
    lab.list("web", service("10.96.0.10", &[]));
    lab.begin().await;
    assert!(address_of(&lab, "p5", GATEWAY, "web.default.svc.cluster.local").is_some());
    let failed = lookup(&lab, "p5", GATEWAY, "www.example.com").unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}

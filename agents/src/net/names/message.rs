//! Questions and answers on the wire: from bytes to what the zone is asked, and back: pure.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::net::names::zone::{Answer, Data, Kind, Zone};

/// Endpoints come and go; CoreDNS gives as much.
const TTL_SECONDS: u32 = 5;
/// How long "there is no such name" may be remembered: the service may be there soon.
const NEGATIVE_TTL_SECONDS: u32 = 2;
/// What a datagram may hold where the asker does not say.
const PLAIN_DATAGRAM_BYTES: u16 = 512;
/// Larger answers go over TCP: beyond this, datagrams get lost in pieces.
const LARGEST_DATAGRAM_BYTES: u16 = 1232;

/// What to do about a question.
#[derive(Debug)]
pub enum Reply {
    Send(Message),
    /// Send the question on as it came.
    Forward,
    /// Answer with this, and what is found at the name.
    Chase {
        partial: Message,
        target: Name,
    },
}

/// `None`: nothing that could be answered.
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    (message.metadata.message_type == MessageType::Query).then_some(message)
}

pub fn reply(zone: &Zone, query: &Message) -> Reply {
    let [question] = query.queries.as_slice() else {
        return Reply::Send(failed(query, ResponseCode::FormErr));
    };
    if query.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return Reply::Send(failed(query, ResponseCode::NotImp));
    }
    let text = question.name().to_ascii();
    let name = text.trim_end_matches('.');
    let kind = match question.query_type() {
        RecordType::A => Kind::Address,
        RecordType::SRV => Kind::Port,
        RecordType::PTR => Kind::Pointer,
        RecordType::CNAME => Kind::Alias,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    };
    let mut message = answer_to(query);
    message.metadata.authoritative = true;
    match zone.answer(name, kind) {
        Answer::Elsewhere => return Reply::Forward,
        Answer::Data(data) => add(&mut message, zone, question.name(), &data),
        Answer::Alias(target) => {
            let data = [Data::Alias(target.clone())];
            add(&mut message, zone, question.name(), &data);
            if let Ok(target) = Name::from_ascii(format!("{target}.")) {
                return Reply::Chase { partial: message, target };
            }
        }
        Answer::NoData => message.authorities.extend(authority(zone)),
        Answer::NoName => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.authorities.extend(authority(zone));
        }
    }
    Reply::Send(message)
}

fn add(message: &mut Message, zone: &Zone, name: &Name, data: &[Data]) {
    for data in data {
        let Some(record) = record(name.clone(), data) else { continue };
        message.add_answer(record);
        let Data::Port { target, .. } = data else { continue };
        // Spares the asker another question.
        if let (Ok(name), Answer::Data(all)) =
            (Name::from_ascii(format!("{target}.")), zone.answer(target, Kind::Address))
        {
            let known = all.iter().filter_map(|data| record_of(&name, data));
            message.add_additionals(known.collect::<Vec<_>>());
        }
    }
}

fn record_of(name: &Name, data: &Data) -> Option<Record> {
    record(name.clone(), data)
}

fn record(name: Name, data: &Data) -> Option<Record> {
    let other = |text: &String| Name::from_ascii(format!("{text}.")).ok();
    let data = match data {
        Data::Address(address) => RData::A(A(*address)),
        Data::Alias(target) => RData::CNAME(CNAME(other(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(other(target)?)),
        Data::Port { port, target } => RData::SRV(SRV::new(0, 100, *port, other(target)?)),
    };
    Some(Record::from_rdata(name, TTL_SECONDS, data))
}

/// Tells for how long the absence may be remembered.
fn authority(zone: &Zone) -> Option<Record> {
    let apex = Name::from_ascii(format!("{}.", zone.domain())).ok()?;
    let server = Name::from_ascii(format!("ns.dns.{}.", zone.domain())).ok()?;
    let person = Name::from_ascii(format!("hostmaster.{}.", zone.domain())).ok()?;
    let soa = SOA::new(server, person, 1, 7200, 1800, 86400, NEGATIVE_TTL_SECONDS);
    Some(Record::from_rdata(apex, NEGATIVE_TTL_SECONDS, RData::SOA(soa)))
}

/// An empty answer to this question.
pub fn answer_to(query: &Message) -> Message {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM_BYTES);
        message.set_edns(edns);
    }
    message
}

pub fn failed(query: &Message, code: ResponseCode) -> Message {
    let mut message = answer_to(query);
    message.metadata.response_code = code;
    message
}

/// The bytes of an answer that goes into a datagram: cut, and said to be, if it does not fit.
pub fn datagram(query: &Message, answer: &Message) -> Option<Vec<u8>> {
    let asked = query.edns.as_ref().map_or(PLAIN_DATAGRAM_BYTES, Edns::max_payload);
    let most = asked.clamp(PLAIN_DATAGRAM_BYTES, LARGEST_DATAGRAM_BYTES);
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= usize::from(most) {
        return Some(bytes);
    }
    answer.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::*;
    use crate::net::tests::{directory, here};

    fn ask(name: &str, kind: RecordType) -> (Message, Reply) {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let bytes = query.to_vec().unwrap();
        let parsed = parse(&bytes).unwrap();
        let reply = reply(&Zone::new(&directory(), &here()), &parsed);
        (parsed, reply)
    }

    fn sent(name: &str, kind: RecordType) -> Message {
        match ask(name, kind).1 {
            Reply::Send(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn absence_is_told_with_how_long_it_may_be_remembered() {
        let missing = sent("nobody.default.svc.cluster.local.", RecordType::A);
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        let known = sent("web.default.svc.cluster.local.", RecordType::AAAA);
        assert_eq!(known.metadata.response_code, ResponseCode::NoError);
        assert!(known.answers.is_empty());
        for message in [missing, known] {
            assert_eq!(message.authorities[0].ttl, NEGATIVE_TTL_SECONDS);
        }
    }

    #[test]
    fn a_port_comes_with_the_address_of_its_target() {
        let message = sent("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
        assert_eq!((message.answers.len(), message.additionals.len()), (1, 1));
    }

    #[test]
    fn other_names_are_sent_on_and_aliases_followed() {
        assert!(matches!(ask("www.example.com.", RecordType::A).1, Reply::Forward));
        let (_, reply) = ask("far.default.svc.cluster.local.", RecordType::A);
        let Reply::Chase { partial, target } = reply else { panic!("{reply:?}") };
        assert_eq!((partial.answers.len(), target.to_ascii().as_str()), (1, "www.example.com."));
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_cut_and_said_to_be() {
        let (query, _) = ask("web.default.svc.cluster.local.", RecordType::A);
        let mut large = answer_to(&query);
        for last in 0..100 {
            let data = Data::Address([10, 0, 0, last].into());
            large.answers.extend(record(query.queries[0].name().clone(), &data));
        }
        let bytes = datagram(&query, &large).unwrap();
        assert!(bytes.len() <= 512);
        assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);
    }
}

//! Watch responses.

use stentor_proto::etcdserverpb::WatchResponse;
use stentor_proto::mvccpb::event::EventType;
use stentor_proto::mvccpb::{Event, KeyValue};

use super::{Format, Printer, line, message, wire};
use crate::json::{Json, Object};

/// `PUT` or `DELETE`; a type that a later protocol adds goes by its number.
pub(crate) fn event_type(event: &Event) -> String {
    match EventType::try_from(event.r#type) {
        Ok(EventType::Put) => "PUT".to_owned(),
        Ok(EventType::Delete) => "DELETE".to_owned(),
        Err(_) => event.r#type.to_string(),
    }
}

impl Printer {
    pub(crate) fn watch(&self, response: &WatchResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(json(response)),
            Format::Fields => self.fields(|f| {
                f.header(response.header.as_ref());
                for event in &response.events {
                    f.field("Type", event_type(event));
                    event.prev_kv.iter().for_each(|kv| f.pair("Prev", kv));
                    f.pair("", event.kv.as_ref().unwrap_or(&KeyValue::default()));
                }
            }),
            // Ids of watchers are an affair between the tool and the server.
            Format::Protobuf => wire(&WatchResponse { watch_id: 0, ..response.clone() }),
            Format::Simple | Format::Table => response.events.iter().flat_map(|e| self.event(e)).collect(),
        }
    }

    fn event(&self, event: &Event) -> Vec<u8> {
        let mut out = line(event_type(event));
        out.extend(event.prev_kv.iter().flat_map(|kv| self.pair(kv)));
        out.extend(self.pair(event.kv.as_ref().unwrap_or(&KeyValue::default())));
        out
    }
}

fn json(response: &WatchResponse) -> Object {
    Object::default()
        .with("Header", message::header_fields(response.header.as_ref()).into())
        .with("Events", Json::List(response.events.iter().map(message::event).collect()))
        .with("CompactRevision", Json::Int(response.compact_revision))
        .with("Canceled", Json::Bool(response.canceled))
        .with("Created", Json::Bool(response.created))
}

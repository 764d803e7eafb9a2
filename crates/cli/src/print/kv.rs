//! Answers of the key-value calls.

use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp, TxnResponse};
use stentor_proto::mvccpb::KeyValue;

use super::fields::Fields;
use super::{Format, Printer, line, message, wire};

impl Printer {
    pub(crate) fn get(&self, response: &RangeResponse, value_only: bool) -> Vec<u8> {
        match self.format {
            Format::Json => line(message::range(response)),
            Format::Fields => self.fields(|f| range_fields(response, f)),
            Format::Protobuf => wire(response),
            Format::Simple | Format::Table => {
                response.kvs.iter().flat_map(|kv| if value_only { self.value(kv) } else { self.pair(kv) }).collect()
            }
        }
    }

    pub(crate) fn put(&self, response: &PutResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(message::put(response)),
            Format::Fields => self.fields(|f| put_fields(response, f)),
            Format::Protobuf => wire(response),
            Format::Simple | Format::Table => {
                let mut out = line("OK");
                out.extend(response.prev_kv.iter().flat_map(|kv| self.pair(kv)));
                out
            }
        }
    }

    pub(crate) fn del(&self, response: &DeleteRangeResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(message::delete(response)),
            Format::Fields => self.fields(|f| delete_fields(response, f)),
            Format::Protobuf => wire(response),
            Format::Simple | Format::Table => {
                let mut out = line(response.deleted);
                out.extend(response.prev_kvs.iter().flat_map(|kv| self.pair(kv)));
                out
            }
        }
    }

    pub(crate) fn txn(&self, response: &TxnResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(message::txn(response)),
            Format::Fields => self.fields(|f| txn_fields(response, f)),
            Format::Protobuf => wire(response),
            Format::Simple | Format::Table => {
                let mut out = line(if response.succeeded { "SUCCESS" } else { "FAILURE" });
                for op in &response.responses {
                    out.extend(line(""));
                    out.extend(self.operation(op));
                }
                out
            }
        }
    }

    fn operation(&self, op: &ResponseOp) -> Vec<u8> {
        match &op.response {
            Some(Response::ResponseRange(r)) => self.get(r, false),
            Some(Response::ResponsePut(r)) => self.put(r),
            Some(Response::ResponseDeleteRange(r)) => self.del(r),
            Some(Response::ResponseTxn(r)) => self.txn(r),
            None => line("unexpected empty response"),
        }
    }

    /// A key and its value, a line each.
    pub(super) fn pair(&self, kv: &KeyValue) -> Vec<u8> {
        let mut out = self.text(&kv.key);
        out.push(b'\n');
        out.extend(self.value(kv));
        out
    }

    fn value(&self, kv: &KeyValue) -> Vec<u8> {
        let mut out = self.text(&kv.value);
        out.push(b'\n');
        out
    }

    pub(super) fn fields(&self, fill: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let mut fields = Fields::new(self.hex);
        fill(&mut fields);
        fields.finish()
    }
}

fn range_fields(response: &RangeResponse, f: &mut Fields) {
    f.header(response.header.as_ref());
    response.kvs.iter().for_each(|kv| f.pair("", kv));
    f.field("More", response.more);
    f.field("Count", response.count);
}

fn put_fields(response: &PutResponse, f: &mut Fields) {
    f.header(response.header.as_ref());
    response.prev_kv.iter().for_each(|kv| f.pair("Prev", kv));
}

fn delete_fields(response: &DeleteRangeResponse, f: &mut Fields) {
    f.header(response.header.as_ref());
    f.field("Deleted", response.deleted);
    response.prev_kvs.iter().for_each(|kv| f.pair("Prev", kv));
}

fn txn_fields(response: &TxnResponse, f: &mut Fields) {
    f.header(response.header.as_ref());
    f.field("Succeeded", response.succeeded);
    for op in &response.responses {
        match &op.response {
            Some(Response::ResponseRange(r)) => range_fields(r, f),
            Some(Response::ResponsePut(r)) => put_fields(r, f),
            Some(Response::ResponseDeleteRange(r)) => delete_fields(r, f),
            Some(Response::ResponseTxn(r)) => txn_fields(r, f),
            None => {}
        }
    }
}

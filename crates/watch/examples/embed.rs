//! A store and a watch in one program, without a server: `cargo run -p stentor-watch --example embed`.

use std::sync::Arc;

use stentor_mvcc::{Store, engine::memory};
use stentor_proto::etcdserverpb::{PutRequest, WatchCreateRequest};
use stentor_watch::{Hub, StreamOptions, WatchStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?);
    let hub = Hub::follow(&store, Default::default());
    let put = |value: &str| {
        store.put(PutRequest { key: "hello".into(), value: value.to_owned().into(), ..Default::default() })
    };

    // Two changes before anyone watches: history has them.
    put("world1")?;
    put("world2")?;

    let mut stream = WatchStream::open(&hub, StreamOptions::default());
    let everything = WatchCreateRequest { key: "hello".into(), start_revision: 1, ..Default::default() };
    stream.create(everything, Ok(()));

    // And one while it is watched. An async program awaits `stream.changed()` when nothing is due.
    put("world3")?;
    while let Some(response) = stream.next_response() {
        for pair in response.events.iter().filter_map(|event| event.kv.as_ref()) {
            println!("{} {} = {}", pair.mod_revision, pair.key.escape_ascii(), pair.value.escape_ascii());
        }
    }
    Ok(())
}

//! The programs that write and read, through any member, and what each of them was answered.

use std::time::Duration;

use stentor_checks::history::Ask;
use stentor_checks::perform::perform;
use stentor_checks::random::Random;
use stentor_checks::workload::Workload;
use stentor_proto::etcdserverpb::CompactionRequest;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use tonic::transport::Channel;

use crate::calls::{Calls, answer, in_time};
use crate::world::World;

/// Runs one program until the run closes.
pub(crate) async fn run(world: World, name: String, calls: Calls, mut workload: Workload, mut random: Random) {
    for number in 0.. {
        let longest = if random.one_in(20) { 3_000 } else { 300 };
        // Now and then many at once.
        let pause = if random.one_in(4) { Duration::ZERO } else { random.millis(0, longest) };
        tokio::time::sleep(pause).await;
        let member = world.lock().some_host(&mut random);
        let Ok(channel) = calls.to(member) else { return };
        let kv = KvClient::new(channel);
        let compaction = workload.compaction(&world.lock().log);
        if let Some(revision) = compaction {
            compact(&world, kv.clone(), revision).await;
        }
        let Some((at, ask)) = draw(&world, &mut workload, &format!("{name}.{number} by m{member}")) else { return };
        let answered = in_time(perform(kv, &ask)).await;
        let mut state = world.lock();
        match answered {
            Ok((revision, answer)) => {
                state.reached.count_answer(&ask, &answer);
                state.history.answer(at, revision, answer);
            }
            Err(error) => {
                state.reached.calls_failed += 1;
                state.note(crate::world::now(), format_args!("{name}.{number} by m{member}: {}", error.message()));
            }
        }
    }
}

/// The next operation and its place; none once nothing more is written.
fn draw(world: &World, workload: &mut Workload, name: &str) -> Option<(usize, Ask)> {
    let mut state = world.lock();
    if state.quiet {
        return None;
    }
    let place = state.history.operations.len();
    let ask = workload.next(&state.log, place);
    Some((state.history.ask(name.to_owned(), ask.clone()), ask))
}

async fn compact(world: &World, mut kv: KvClient<Channel>, revision: i64) {
    // What it did shows in the stores.
    if answer(kv.compact(CompactionRequest { revision, physical: false })).await.is_ok() {
        world.lock().reached.compactions += 1;
    }
}

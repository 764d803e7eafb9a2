//! RangeStream.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::etcdserverpb::{CompactionRequest, RangeRequest, RangeResponse};
use tonic::{Code, Status};

use crate::harness::{Rig, prefixed, put, refused};

async fn chunks(rig: &Rig, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = rig.kv().range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk.range_response.unwrap());
    }
    Ok(chunks)
}

/// The chunks make up the answer that Range gives; all but the last are pairs alone.
async fn is_the_range(rig: &Rig, request: RangeRequest) -> Vec<RangeResponse> {
    let whole = rig.kv().range(request.clone()).await.unwrap().into_inner();
    let chunks = chunks(rig, request.clone()).await.unwrap();
    let (last, others) = chunks.split_last().expect("at least one chunk");
    for chunk in others {
        assert!(!chunk.kvs.is_empty());
        assert_eq!((chunk.header, chunk.more, chunk.count), (None, false, 0));
    }
    assert_eq!((last.header, last.more, last.count), (whole.header, whole.more, whole.count), "{request:?}");
    let pairs: Vec<_> = chunks.iter().flat_map(|chunk| chunk.kvs.clone()).collect();
    assert_eq!(pairs, whole.kvs, "{request:?}");
    chunks
}

#[tokio::test(start_paused = true)]
async fn the_chunks_are_the_range() {
    let rig = Rig::start(&[]).await;
    for n in 0..300 {
        rig.put(&format!("k/{n:03}"), vec![b'v'; n]).await;
    }
    let all = prefixed("k/");
    let sizes = |chunks: &[RangeResponse]| chunks.iter().map(|c| c.kvs.len()).collect::<Vec<_>>();
    let first = is_the_range(&rig, all.clone()).await;
    assert_eq!(sizes(&first)[..3], [10, 20, 40], "small ones first");
    for limit in [0, 1, 9, 10, 11, 30, 299, 300, 301, -5] {
        is_the_range(&rig, RangeRequest { limit, ..all.clone() }).await;
    }
    // Pinned: the header holds the newest revision all the same.
    let pinned = is_the_range(&rig, RangeRequest { revision: 100, limit: 20, ..all.clone() }).await;
    assert_eq!(pinned.last().unwrap().header.unwrap().revision, 301);
    for request in [
        RangeRequest { keys_only: true, ..all.clone() },
        RangeRequest { count_only: true, ..all.clone() },
        RangeRequest { count_only: true, limit: 3, ..all.clone() },
        RangeRequest { serializable: true, ..all.clone() },
        RangeRequest { sort_order: SortOrder::Ascend.into(), ..all.clone() },
        prefixed("none"),
        RangeRequest { range_end: "".into(), key: "k/007".into(), ..RangeRequest::default() },
        RangeRequest { range_end: vec![0].into(), key: "k/290".into(), ..RangeRequest::default() },
    ] {
        is_the_range(&rig, request).await;
    }
    assert_eq!(sizes(&is_the_range(&rig, prefixed("none")).await), [0]);
    assert_eq!(sizes(&is_the_range(&rig, RangeRequest { count_only: true, ..all }).await), [0]);
}

/// Chunks grow towards the largest request and not beyond, and shrink where pairs are large.
#[tokio::test(start_paused = true)]
async fn chunks_grow_and_shrink_with_the_pairs() {
    let rig = Rig::start(&["--max-request-bytes=40000"]).await;
    for n in 0..400 {
        rig.put(&format!("k/a{n:03}"), vec![b'v'; 100]).await;
    }
    for n in 0..30 {
        rig.put(&format!("k/b{n:03}"), vec![b'v'; 30_000]).await;
    }
    let chunks = is_the_range(&rig, prefixed("k/")).await;
    let bytes = |chunk: &RangeResponse| chunk.kvs.iter().map(|p| p.key.len() + p.value.len()).sum::<usize>();
    let largest_of_small = chunks.iter().filter(|c| c.kvs.iter().all(|p| p.value.len() == 100)).map(bytes).max();
    assert!((15_000..80_000).contains(&largest_of_small.unwrap()), "{largest_of_small:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_streamed() {
    let rig = Rig::start(&[]).await;
    assert_eq!(rig.put("k", "").await, 2);
    rig.put("k", "").await;
    rig.kv().compact(CompactionRequest { revision: 3, physical: false }).await.unwrap();
    let refusals = [
        RangeRequest { sort_order: SortOrder::Descend.into(), ..prefixed("k") },
        RangeRequest { sort_order: SortOrder::Ascend.into(), sort_target: SortTarget::Mod.into(), ..prefixed("k") },
        RangeRequest { min_mod_revision: 1, ..prefixed("k") },
        RangeRequest { max_mod_revision: 1, ..prefixed("k") },
        RangeRequest { min_create_revision: 1, ..prefixed("k") },
        RangeRequest { max_create_revision: 1, ..prefixed("k") },
    ];
    for request in refusals {
        let status = chunks(&rig, request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{request:?}: {status:?}");
    }
    let mut kv = rig.kv();
    let at = |revision| RangeRequest { revision, ..prefixed("k") };
    refused(kv.range_stream(at(2)).await, EtcdError::Compacted);
    refused(kv.range_stream(at(4)).await, EtcdError::FutureRev);
    refused(kv.range_stream(RangeRequest { key: "".into(), ..at(0) }).await, EtcdError::EmptyKey);
    refused(kv.range_stream(RangeRequest { sort_order: 9, ..at(0) }).await, EtcdError::InvalidSortOption);
}

/// What is written while a stream is read is not in it, and its header's revision is where a watch goes on.
#[tokio::test(start_paused = true)]
async fn all_chunks_read_one_revision() {
    let rig = Rig::start(&[]).await;
    for n in 0..200 {
        rig.put(&format!("k/{n:03}"), vec![b'v'; 100_000]).await;
    }
    let mut stream = rig.kv().range_stream(prefixed("k/")).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().range_response.unwrap();
    let mut kvs = first.kvs;
    rig.kv().put(put("k/199", "changed")).await.unwrap();
    rig.put("k/1995", "new").await;
    rig.kv().delete_range(super::delete("k/198")).await.unwrap();
    let mut last = None;
    while let Some(chunk) = stream.message().await.unwrap() {
        let chunk = chunk.range_response.unwrap();
        kvs.extend(chunk.kvs.clone());
        last = Some(chunk);
    }
    let last = last.unwrap();
    assert_eq!((kvs.len(), last.count, last.header.unwrap().revision), (200, 200, 201));
    assert!(kvs.iter().all(|pair| pair.value.len() == 100_000));
}

#[tokio::test(start_paused = true)]
async fn compaction_that_passes_it_ends_a_stream() {
    let rig = Rig::start(&[]).await;
    for n in 0..200 {
        rig.put(&format!("k/{n:03}"), vec![b'v'; 100_000]).await;
    }
    let mut stream = rig.kv().range_stream(prefixed("k/")).await.unwrap().into_inner();
    let mut keys = stream.message().await.unwrap().unwrap().range_response.unwrap().kvs.len();
    let now = rig.put("k/000", "changed").await;
    rig.kv().compact(CompactionRequest { revision: now, physical: true }).await.unwrap();
    let end = loop {
        match stream.message().await {
            Ok(chunk) => keys += chunk.expect("an error before the end").range_response.unwrap().kvs.len(),
            Err(status) => break status,
        }
    };
    assert!(keys < 200, "{keys} keys were on their way already");
    refused::<()>(Err(end), EtcdError::Compacted);
}

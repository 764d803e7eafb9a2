//! How often a server is pinged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use crate::harness::until;
use crate::members::scripted;

const PREFACE: usize = 24;
const PING: u8 = 6;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Answers pings and nothing else, and ends the connection at the second ping. Notes how long after the
/// connection each came.
async fn serve(mut pipe: DuplexStream, pings: Arc<Mutex<Vec<Vec<Duration>>>>) -> std::io::Result<()> {
    let began = Instant::now();
    let number = {
        let mut pings = pings.lock().unwrap();
        pings.push(Vec::new());
        pings.len() - 1
    };
    pipe.read_exact(&mut [0; PREFACE]).await?;
    pipe.write_all(&frame(SETTINGS, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        pipe.read_exact(&mut head).await?;
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        pipe.read_exact(&mut body).await?;
        match (head[3], head[4]) {
            (SETTINGS, 0) => pipe.write_all(&frame(SETTINGS, 1, &[])).await?,
            (PING, 0) => {
                pipe.write_all(&frame(PING, 1, &body)).await?;
                let seen = {
                    let pings = &mut pings.lock().unwrap()[number];
                    pings.push(began.elapsed());
                    pings.len()
                };
                if seen == 2 {
                    let mut gone = 1_u32.to_be_bytes().to_vec();
                    gone.extend(ENHANCE_YOUR_CALM.to_be_bytes());
                    gone.extend(b"too_many_pings");
                    return pipe.write_all(&frame(GOAWAY, 0, &gone)).await;
                }
            }
            _ => {}
        }
    }
}

/// A frame of HTTP/2, of no stream.
fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 0]);
    frame.extend(body);
    frame
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_fewer_pings_gets_half_of_them() {
    let pings: Arc<Mutex<Vec<Vec<Duration>>>> = Arc::default();
    let seen = pings.clone();
    let client = scripted::connected(move |pipe| drop(tokio::spawn(serve(pipe, seen.clone()))));
    let client = client.call_timeout(None).try_timeout(Duration::from_secs(3600)).build().unwrap();
    let call = tokio::spawn(async move { client.get("k").await });
    let gaps = || -> Vec<_> {
        let pings = pings.lock().unwrap();
        pings.iter().filter_map(|pings| Some((*pings.get(1)? - *pings.first()?).as_secs())).collect()
    };
    until(|| gaps().len() >= 2).await;
    call.abort();
    assert_eq!(gaps()[..2], [10, 20]);
}

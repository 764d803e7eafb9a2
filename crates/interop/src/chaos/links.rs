//! The links between members: one for each direction of each pair, by a proxy in front of each member's peer port.
//!
//! All members name a member by the same URL, so a proxy learns from the kernel whose connection it has: the
//! socket's number in `/proc` is among the files of one of the processes. Thus links can be cut for each pair and
//! direction without root, where network namespaces need it. A member opens the connection on which it sends,
//! so that the direction of a connection is that of the messages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::proxy::{Ends, Gate, Link, Mode};

/// All links between so many members.
pub(super) struct Links {
    gates: Vec<Gate>,
    /// By receiver, then by sender.
    links: Vec<Vec<Arc<Link>>>,
    processes: Processes,
}

/// The process of each member.
#[derive(Clone, Default)]
struct Processes(Arc<Mutex<Vec<Option<u32>>>>);

impl Links {
    /// In front of members that listen there.
    pub(super) async fn start(listens: &[String]) -> Result<Links> {
        let processes = Processes(Arc::new(Mutex::new(vec![None; listens.len()])));
        let (mut gates, mut links) = (Vec::new(), Vec::new());
        for listen in listens {
            let to_this: Vec<_> = listens.iter().map(|_| Arc::new(Link::default())).collect();
            let (senders, processes) = (to_this.clone(), processes.clone());
            let link = move |ends: Ends| senders.get(processes.owner(&ends)?).cloned();
            gates.push(Gate::start(listen, link).await?);
            links.push(to_this);
        }
        Ok(Links { gates, links, processes })
    }

    /// The peer URL of a member, behind the proxy.
    pub(super) fn endpoint(&self, member: usize) -> String {
        self.gates.get(member).map(Gate::endpoint).unwrap_or_default()
    }

    /// This process is the member now.
    pub(super) fn runs(&self, member: usize, process: u32) {
        let mut processes = self.processes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = processes.get_mut(member) {
            *place = Some(process);
        }
    }

    /// What becomes of messages from one member to another.
    pub(super) fn set(&self, from: usize, to: usize, mode: Mode) {
        if let Some(link) = self.links.get(to).and_then(|senders| senders.get(from)) {
            link.set(mode);
        }
    }

    /// Nothing keeps any message back.
    pub(super) fn heal(&self) {
        self.links.iter().flatten().for_each(|link| link.set(Mode::Open));
    }

    /// How often a link could not carry something as it came.
    pub(super) fn disturbed(&self) -> u64 {
        self.links.iter().flatten().map(|link| link.disturbed()).sum()
    }
}

impl Processes {
    /// The member whose connection this is.
    fn owner(&self, ends: &Ends) -> Option<usize> {
        let processes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let socket = socket_between(&sockets, ends)?;
        processes.iter().position(|process| process.is_some_and(|process| holds(process, &socket)))
    }
}

/// The kernel's number of the socket at the client's end, from its table. Its own address alone would not do: another
/// connection may have had the same port to another address a moment ago, or have it now.
fn socket_between(table: &str, ends: &Ends) -> Option<String> {
    let (local, remote) = (in_table(ends.client)?, in_table(ends.server)?);
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let at_client = columns.get(1) == Some(&local.as_str()) && columns.get(2) == Some(&remote.as_str());
        at_client.then(|| columns.get(9).map(|&number| number.to_owned())).flatten()
    })
}

/// An address as the kernel's table writes it.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

fn holds(process: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let name = PathBuf::from(format!("socket:[{socket}]"));
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:0009 06 00000000:00000000 03:00000000 00000000     0        0 0 3\n   \
                     1: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 4141 1\n   \
                     2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n";
        let ends =
            |client: &str, server: &str| Ends { client: client.parse().unwrap(), server: server.parse().unwrap() };
        let found = |client, server| socket_between(table, &ends(client, server));
        assert_eq!(found("127.0.0.1:8080", "127.0.0.1:54321").as_deref(), Some("4242"), "not the one that has ended");
        assert_eq!(found("127.0.0.1:54321", "127.0.0.1:8080").as_deref(), Some("4141"));
        assert_eq!(found("127.0.0.1:8081", "127.0.0.1:54321"), None);
    }

    #[tokio::test]
    async fn a_connection_belongs_to_the_member_that_opened_it() {
        // What is refused by mistake would be waited for without an end.
        let checked = tokio::time::timeout(Duration::from_secs(60), cuts_links_by_owner());
        checked.await.expect("a connection was not passed on");
    }

    async fn cuts_links_by_owner() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = format!("http://{}", server.local_addr().unwrap());
        let links = Links::start(&[listen, "http://127.0.0.1:9".to_owned()]).await.unwrap();
        let connect = || async {
            let address = links.endpoint(0).trim_start_matches("http://").to_owned();
            TcpStream::connect(address).await.unwrap()
        };
        let mut stranger = connect().await;
        assert!(!matches!(stranger.read(&mut [0]).await, Ok(1..)), "nobody knows this process yet");
        links.runs(1, std::process::id());
        let _open = connect().await;
        server.accept().await.unwrap();
        links.set(0, 0, Mode::Refusing);
        let _another = connect().await;
        server.accept().await.unwrap();
        assert_eq!(links.disturbed(), 0, "that was another direction");
        links.set(1, 0, Mode::Refusing);
        let mut refused = connect().await;
        assert!(!matches!(refused.read(&mut [0]).await, Ok(1..)));
        assert!(links.disturbed() > 0);
        links.heal();
        let _again = connect().await;
        server.accept().await.unwrap();
    }
}

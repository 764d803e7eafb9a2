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

use crate::proxy::{Gate, Link, Mode};

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
            let link = move |address| senders.get(processes.owner(address)?).cloned();
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
    /// The member whose connection comes from an address.
    fn owner(&self, address: SocketAddr) -> Option<usize> {
        let processes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let socket = socket_at(&sockets, address)?;
        processes.iter().position(|process| process.is_some_and(|process| holds(process, &socket)))
    }
}

/// The kernel's number of the socket at a local address, from its table.
fn socket_at(table: &str, address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    row.into_iter().find(|row| row.get(1) == Some(&local.as_str())).and_then(|row| Some((*row.get(9)?).to_owned()))
}

fn holds(process: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let name = PathBuf::from(format!("socket:[{socket}]"));
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == name))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n";
        assert_eq!(socket_at(table, "127.0.0.1:8080".parse().unwrap()), Some("4242".to_owned()));
        assert_eq!(socket_at(table, "127.0.0.1:8081".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn a_connection_belongs_to_the_member_that_opened_it() {
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

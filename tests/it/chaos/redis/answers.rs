//! A server that answers, with an error: out of memory, a replica, without its master, still loading. A relay says so
//! in its place; the same on a real server is in `server`.

use std::{net::SocketAddr, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Course, World, address, through, times};
use crate::support::services;

const ERRORS: &[(&str, &str, &str)] = &[
    ("5g1", "answers OOM", "OOM command not allowed when used memory > 'maxmemory'."),
    ("5g2", "answers READONLY", "READONLY You can't write against a read only replica."),
    ("5g3", "answers MASTERDOWN", "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
    ("5g4", "answers LOADING", "LOADING Redis is loading the dataset in memory"),
    ("5g5", "answers NOSCRIPT", "NOSCRIPT No matching script. Please use EVAL."),
];

/// Passes on, or answers every command with an error. Each change ends the connections, as a restart does.
struct Relay {
    address: SocketAddr,
    says: watch::Sender<Option<&'static str>>,
    _stop: DropGuard,
}

impl Relay {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (says, heard) = watch::channel(None);
        let until = stop.clone();
        tokio::spawn(until.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut heard, until) = (heard.clone(), until.clone());
                let says = *heard.borrow_and_update();
                tokio::spawn(async move {
                    tokio::select! {
                        () = until.cancelled() => {}
                        _ = heard.changed() => {}
                        _ = serve(client, upstream, says) => {}
                    }
                });
            }
        }));
        Self { address, says, _stop: stop.drop_guard() }
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, says: Option<&'static str>) -> std::io::Result<()> {
    let Some(error) = says else {
        let mut upstream = TcpStream::connect(upstream).await?;
        return copy_bidirectional(&mut client, &mut upstream).await.map(drop);
    };
    let (mut unread, mut answers) = (Vec::new(), String::new());
    while client.read_buf(&mut unread).await? > 0 {
        while let Some((name, length)) = command(&unread) {
            // Who connects is let in, also by a server that can do nothing else.
            let welcome = ["AUTH", "CLIENT", "SELECT"].contains(&name.as_str());
            answers += &if welcome { "+OK\r\n".to_owned() } else { format!("-{error}\r\n") };
            unread.drain(..length);
        }
        client.write_all(answers.as_bytes()).await?;
        answers.clear();
    }
    Ok(())
}

/// The name of the first command, if all of it is there, and how long it is: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`.
fn command(bytes: &[u8]) -> Option<(String, usize)> {
    let mut at = 0;
    let number = |at: &mut usize| {
        let end = *at + bytes.get(*at..)?.windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(&bytes[*at + 1..end]).unwrap().parse::<usize>().unwrap();
        *at = end + 2;
        Some(number)
    };
    let mut name = None;
    for _ in 0..number(&mut at)? {
        let length = number(&mut at)?;
        let word = bytes.get(at..at + length)?;
        name.get_or_insert_with(|| String::from_utf8_lossy(word).to_ascii_uppercase());
        at += length + 2;
    }
    (at <= bytes.len()).then_some((name?, at))
}

async fn fault(number: &'static str, name: &str, error: &'static str, full: bool) {
    let url = services::variable("REDIS_URL");
    let relay = Relay::start(address(&url).await).await;
    let world = World::start(&through(&url, relay.address), full).await;
    let (calm, lasts) = times(full);
    let load = world.load().await;
    let start = Instant::now();
    tokio::time::sleep(calm).await;
    relay.says.send_replace(Some(error));
    let began = Instant::now();
    tokio::time::sleep(lasts).await;
    relay.says.send_replace(None);
    let ended = Instant::now();
    let back = world.in_use(ended).await;
    world.row(number, name, full, start, load, Course { began, ended, back }).await;
    world.stop().await;
}

pub async fn run(full: bool) {
    futures_util::future::join_all(
        ERRORS.iter().map(|(number, name, error)| fault(number, name, error, full)).take(if full { 0 } else { 5 }),
    )
    .await;
    for (number, name, error) in ERRORS.iter().take(if full { 5 } else { 0 }) {
        fault(number, name, error, full).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_answers_with_an_error_fails_no_request() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}

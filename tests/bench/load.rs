//! As much load as the service takes: keep-alive connections that each ask again as soon as they are answered. One
//! thread, like wrk's, so that a second core is enough for it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
};

use super::{client::Answer, figures::Histogram};

pub struct Load {
    runtime: Runtime,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    bytes: Vec<u8>,
}

/// What a load came to.
pub struct Done {
    pub latencies: Histogram,
    pub took: Duration,
}

impl Load {
    /// Opens a connection for each request: the one that it sends again and again.
    pub fn open(address: SocketAddr, requests: Vec<Vec<u8>>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime for the load: {error}"))?;
        let connections = runtime.block_on(async {
            let mut connections = Vec::with_capacity(requests.len());
            for request in requests {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                connections.push(Connection { stream, request, bytes: Vec::with_capacity(8 << 10) });
            }
            Ok(connections)
        });
        let connections =
            connections.map_err(|error: std::io::Error| format!("no connection to {address}: {error}"))?;
        Ok(Self { runtime, connections })
    }

    /// # Errors
    /// An answer other than 200, or none for 30 s.
    pub fn run(&mut self, length: Duration) -> Result<Done, String> {
        let latencies = Arc::new(Mutex::new(Histogram::default()));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        let _in_runtime = self.runtime.enter();
        for mut connection in self.connections.drain(..) {
            let latencies = Arc::clone(&latencies);
            tasks.spawn(async move {
                let mut start = Instant::now();
                while start - began < length {
                    connection.ask().await?;
                    let end = Instant::now();
                    latencies.lock().expect("nobody panics with it").record((end - start).as_nanos());
                    start = end;
                }
                Ok::<_, String>(connection)
            });
        }
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                self.connections.push(ended.expect("a connection returns its errors")?);
            }
            Ok::<_, String>(())
        };
        let limited = async { tokio::time::timeout(length + Duration::from_secs(30), all).await };
        self.runtime.block_on(limited).map_err(|_| "no answer for 30 s")??;
        let latencies = std::mem::take(&mut *latencies.lock().expect("nobody panics with it"));
        Ok(Done { latencies, took: began.elapsed() })
    }
}

impl Connection {
    async fn ask(&mut self) -> Result<(), String> {
        self.stream.write_all(&self.request).await.map_err(|error| format!("a request can't be sent: {error}"))?;
        self.bytes.clear();
        loop {
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) => return Err("the service closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("no answer: {error}")),
            }
            if let Some(answer) = Answer::parse(&self.bytes)? {
                return answer.check(200, &self.bytes);
            }
        }
    }
}

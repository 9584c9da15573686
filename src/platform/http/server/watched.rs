//! A socket that tells its clock what comes in and whether anything goes out.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::watch::Watch;

/// What is read and thrown away after the last answer, and for how long.
const LINGER_BYTES: usize = 4 << 20;
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Watched {
    pub stream: TcpStream,
    watch: Arc<Watch>,
    /// Bytes thrown away so far, once our side is closed.
    thrown: Option<usize>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub fn new(stream: TcpStream, watch: Arc<Watch>) -> Self {
        Self { stream, watch, thrown: None, linger: None }
    }

    /// Notes how a write went. The kernel reports room only when a third of its buffer is free: megabytes,
    /// for which a slow client may need longer than the limit. So before it is given up, it is asked directly.
    fn wrote(
        &self,
        polled: Poll<io::Result<usize>>,
        directly: impl FnOnce(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let polled = match polled {
            Poll::Pending if self.watch.take_probe() => match directly(&self.stream) {
                Ok(written) => Poll::Ready(Ok(written)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
            polled => polled,
        };
        match polled {
            Poll::Pending => self.watch.stalled(),
            Poll::Ready(_) => self.watch.progressed(),
        }
        polled
    }
}

impl Watched {
    /// The client may be in the middle of a body that nobody wanted. Closed right away, the kernel would answer
    /// its next bytes with a reset, and that can take our answer (413, 408) away from it.
    fn poll_linger(&mut self, cx: &mut Context<'_>) {
        let mut scratch = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            let read = buffer.filled().len();
            let thrown = self.thrown.map_or(read, |thrown| thrown + read);
            self.thrown = Some(thrown);
            match polled {
                Poll::Ready(Ok(())) if read > 0 && thrown < LINGER_BYTES => {
                    self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
                }
                // Nothing was on its way, or more comes soon.
                Poll::Pending => return,
                Poll::Ready(_) => {
                    self.linger = None;
                    return;
                }
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match polled {
            Poll::Ready(_) if buffer.filled().len() > before => self.watch.received(),
            Poll::Ready(_) => {}
            Poll::Pending => self.watch.drained(),
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled, |stream| rustix::io::write(stream, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled, |stream| rustix::io::writev(stream, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.thrown.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.thrown = Some(0);
        }
        self.poll_linger(cx);
        let waits = self.linger.as_mut().is_some_and(|linger| linger.as_mut().poll(cx).is_pending());
        if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

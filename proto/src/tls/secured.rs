//! A client's connection that remembers how it was refused.
//!
//! In TLS 1.3 the server judges a client's certificate after the client's handshake is done. Its verdict breaks the
//! first read, and HTTP/2 hides the reason; so it is kept here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::words;

/// What the other side said as it refused, once it has.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<OnceLock<String>>);

impl Verdict {
    /// In words; `None`: it said nothing.
    pub fn said(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn hear(&self, error: &io::Error) {
        if let Some(Error::AlertReceived(alert)) = words::inner(error) {
            // Only the first counts: what follows is about a broken connection.
            let _ = self.0.set(words::refused(*alert));
        }
    }
}

/// The connection.
#[derive(Debug)]
pub struct Secured<IO> {
    stream: TlsStream<IO>,
    verdict: Verdict,
}

impl<IO> Secured<IO> {
    pub(super) fn new(stream: TlsStream<IO>) -> Self {
        Self {
            stream,
            verdict: Verdict::default(),
        }
    }

    /// Where a refusal is kept; it outlives the connection.
    pub fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, into));
        if let Err(error) = &read {
            self.verdict.hear(error);
        }
        Poll::Ready(read)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

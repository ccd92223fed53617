//! One plain GET of a service of this very host: bounded in time and size, without redirects.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::header::{ACCEPT, CONNECTION, HOST};
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::text::NotMetrics;
use crate::observe::logs::lines::Lines;

/// The whole of it. On an idle machine containerd takes 10 ms, and with a thousand containers some hundred; the look
/// that waits for it has 10 s.
const TIME: Duration = Duration::from_secs(3);

/// containerd tells 60 series of each container, 13 KiB: this is more than two thousand of them.
const BODY: usize = 32 << 20;

/// Bytes of the answer's head, and of what is held of its body at a time.
const BUFFER: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody listens.
    #[error("nothing listens there")]
    Closed,
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It broke off, or is no HTTP.
    #[error("it does not speak HTTP as it should: {0}")]
    Http(#[from] hyper::Error),
    /// Another status than 200: 404 by another program, 301 to HTTPS, 401.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// The body.
    #[error("it answers with something else than metrics")]
    NotMetrics,
    /// The body goes on and on.
    #[error("its answer is longer than the {} MiB that are read", BODY >> 20)]
    TooLong,
    /// No answer, or one without end.
    #[error("it did not answer within {} s", TIME.as_secs())]
    TooLate,
}

impl From<NotMetrics> for Failure {
    fn from(_: NotMetrics) -> Self {
        Self::NotMetrics
    }
}

/// Hands on the lines of what is served there under `path`.
pub(super) async fn get(
    address: SocketAddr,
    path: &str,
    each: &mut (dyn FnMut(&str) -> Result<(), NotMetrics> + Send),
) -> Result<(), Failure> {
    timeout(TIME, answer(address, path, each))
        .await
        .unwrap_or(Err(Failure::TooLate))
}

async fn answer(
    address: SocketAddr,
    path: &str,
    each: &mut (dyn FnMut(&str) -> Result<(), NotMetrics> + Send),
) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Closed,
        _ => Failure::Io(error),
    })?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(ACCEPT, "text/plain;version=0.0.4")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let talk = async {
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => read(answer.into_body(), each).await,
            other => Err(Failure::Status(other)),
        }
    };
    // The connection is driven beside the talk; where it ends first, the talk has it all or says why not.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        end = talk => end,
        never = drive => match never {},
    }
}

async fn read(
    mut body: Incoming,
    each: &mut (dyn FnMut(&str) -> Result<(), NotMetrics> + Send),
) -> Result<(), Failure> {
    let mut lines = Lines::default();
    let mut read = 0;
    let mut end = Ok(());
    let mut take = |line: &str| {
        if end.is_ok() {
            end = each(line);
        }
    };
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        read += data.len();
        if read > BODY {
            return Err(Failure::TooLong);
        }
        lines.push(&data, &mut take);
    }
    // A last line without its end is a line.
    lines.push(b"\n", &mut take);
    Ok(end?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::text::Sample;
    use super::*;

    /// A server that answers every request with these bytes, `times` times the last ones, and then does nothing.
    async fn serve(head: &'static str, part: &'static str, times: usize, hang: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
            let block = part.repeat(1024);
            for _ in 0..times {
                if stream.write_all(block.as_bytes()).await.is_err() {
                    return;
                }
            }
            if hang {
                std::future::pending::<()>().await;
            }
        });
        address
    }

    async fn lines(address: SocketAddr) -> (Result<(), Failure>, usize) {
        let mut count = 0;
        let mut each = |line: &str| {
            count += 1;
            Sample::read(line).map(drop)
        };
        let end = get(address, "/metrics", &mut each).await;
        (end, count)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

    #[tokio::test]
    async fn what_is_served_is_read_line_by_line() {
        let address = serve(OK, "a 1\nb{c=\"d\"} 2\n", 40, false).await;
        let (end, count) = lines(address).await;
        end.unwrap();
        assert_eq!(count, 2 * 40 * 1024 + 1);
        let address = serve("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na 1\nb 2", "", 0, true).await;
        let (end, count) = lines(address).await;
        end.unwrap();
        assert_eq!(count, 2, "the last line has no end");
    }

    #[tokio::test]
    async fn everything_else_is_a_reason() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(lines(free).await.0, Err(Failure::Closed)));
        for (head, expected) in [
            (
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
                "it answers 302 Found",
            ),
            (
                "HTTP/1.0 200 OK\r\n\r\n<html>no</html>\n",
                "it answers with something else than metrics",
            ),
            ("SSH-2.0-OpenSSH_9.2\r\n", "it does not speak HTTP as it should"),
            ("", "it does not speak HTTP as it should"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\na 1\n",
                "it does not speak HTTP as it should",
            ),
        ] {
            let (end, _) = lines(serve(head, "", 0, false).await).await;
            let text = end.unwrap_err().to_string();
            assert!(text.starts_with(expected), "{head:?}: {text}");
        }
    }

    #[tokio::test]
    async fn silence_and_an_answer_without_end_cost_bounded_time_and_memory() {
        let start = Instant::now();
        for (head, part, times, expected) in [
            ("", "", 0, "it did not answer within 3 s"),
            (OK, "", 0, "it did not answer within 3 s"),
            // 100 MB.
            (
                OK,
                "a_metric 12345678901234567890123\n",
                3000,
                "its answer is longer than the 32 MiB that are read",
            ),
            // The same in one line.
            (OK, "x", 100_000, "it answers with something else than metrics"),
        ] {
            let (end, _) = lines(serve(head, part, times, true).await).await;
            let text = end.unwrap_err().to_string();
            // A machine that is slow has the other limit first.
            assert!(
                text == expected || times > 0 && text.contains("within 3 s") || text.contains("32 MiB"),
                "{text}"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(14), "{:?}", start.elapsed());
    }
}

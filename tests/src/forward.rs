//! A door from the machine's 127.0.0.1 into the underlay, so that people can
//! ask the lab's aggregator from their own shell.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net;
use tokio::sync::{Semaphore, oneshot};

use crate::netns::Netns;

/// Connections at once: more than a person and a script have open.
const CONNECTIONS: usize = 64;
/// The lab answers in microseconds or not at all.
const CONNECT: Duration = Duration::from_secs(1);

/// An open door. It closes when this is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Forward {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Its errors are its callers': they have seen their connections close.
            let _ = thread.join();
        }
    }
}

/// Listens on 127.0.0.1, on `port` if it is free, else on any. Every
/// connection is carried on to `target` inside `underlay`.
pub fn open(underlay: &Netns, port: u16, target: SocketAddr) -> io::Result<Forward> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let underlay = underlay.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("forward".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                served = serve(listener, &underlay, target) => served,
                _ = stopped => Ok(()),
            }
        })
    })?;
    Ok(Forward {
        address,
        stop: Some(stop),
        thread: Some(thread),
    })
}

async fn serve(listener: TcpListener, underlay: &Netns, target: SocketAddr) -> io::Result<()> {
    let listener = net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return Ok(());
        };
        let Ok((outside, _)) = listener.accept().await else {
            continue;
        };
        let underlay = underlay.clone();
        tokio::spawn(async move {
            // A failed connection ends here: the caller sees it closed.
            let _ = carry(outside, underlay, target).await;
            drop(permit);
        });
    }
}

async fn carry(mut outside: net::TcpStream, underlay: Netns, target: SocketAddr) -> io::Result<()> {
    let connect = move || underlay.run(|| TcpStream::connect_timeout(&target, CONNECT))?;
    let inside = tokio::task::spawn_blocking(connect).await.map_err(io::Error::other)??;
    inside.set_nonblocking(true)?;
    let mut inside = net::TcpStream::from_std(inside)?;
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

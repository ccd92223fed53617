//! The thread that dumps for a watcher: events are read meanwhile. It inherits
//! the namespace of the thread that starts it, and ends with the watcher.

use std::sync::mpsc as requests;
use std::thread;

use tokio::sync::mpsc as answers;

use super::ObserveError;
use super::dumped::Dumped;
use super::dumper::Dumper;
use super::parts::Parts;

/// The watcher's end.
#[derive(Debug)]
pub(super) struct Worker {
    requests: requests::SyncSender<Parts>,
    answers: answers::Receiver<Box<Dumped>>,
}

impl Worker {
    pub(super) fn start(mut dumper: Dumper) -> Result<Self, ObserveError> {
        // One request at a time, so one place each.
        let (ask, asked) = requests::sync_channel(1);
        let (answer, answers) = answers::channel(1);
        thread::Builder::new()
            .name("netlink-dump".to_owned())
            .spawn(move || {
                for parts in asked {
                    if answer.blocking_send(Box::new(dumper.dump(parts))).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| ObserveError::Thread(error.to_string()))?;
        Ok(Self { requests: ask, answers })
    }

    /// Asks for a dump. Not to be called while one is awaited.
    pub(super) fn ask(&self, parts: Parts) -> Result<(), ObserveError> {
        self.requests
            .try_send(parts)
            .map_err(|error| ObserveError::Thread(error.to_string()))
    }

    /// Awaits the dump that was asked for. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<Box<Dumped>, ObserveError> {
        self.answers
            .recv()
            .await
            .ok_or_else(|| ObserveError::Thread("it ended".to_owned()))
    }

    /// The dump that was asked for, if it is there.
    pub(super) fn ready(&mut self) -> Result<Option<Box<Dumped>>, ObserveError> {
        match self.answers.try_recv() {
            Ok(dumped) => Ok(Some(dumped)),
            Err(answers::error::TryRecvError::Empty) => Ok(None),
            Err(answers::error::TryRecvError::Disconnected) => Err(ObserveError::Thread("it ended".to_owned())),
        }
    }
}

//! How `cidrift-lab break` and its kin talk to a lab that runs: one line of
//! JSON each way over a unix socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A request is a few dozen bytes; more than this is not one.
const LONGEST: u64 = 4096;
/// How long a peer may take to send its line: it is a program, not a person.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a lab can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Break it so.
    Break(String),
    /// Take that break back.
    Mend(String),
    /// Which breaks are in force.
    Breaks,
    /// End.
    Down,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It was done.
    pub ok: bool,
    /// For the person who asked.
    pub text: String,
    /// Names of the breaks in force.
    pub broken: Vec<String>,
}

/// A request with the way to answer it.
pub type Asked = (Request, Sender<Answer>);

/// Listens on `socket` and hands every request to `inbox`, one at a time. It
/// ends with the process. A socket that a killed lab left is replaced; one
/// that answers is an error.
pub fn listen(socket: &Path, inbox: impl Fn(Asked) + Send + 'static) -> io::Result<()> {
    if UnixStream::connect(socket).is_ok() {
        return Err(io::Error::other("a lab runs already; end it with `cidrift-lab down`"));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who hangs up early or talks nonsense is heard no further.
            let _ = serve(stream, &inbox);
        }
    })?;
    Ok(())
}

fn serve(mut stream: UnixStream, inbox: &impl Fn(Asked)) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(LONGEST)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (answer, answered) = channel();
            inbox((request, answer));
            answered.recv().unwrap_or(Answer {
                ok: false,
                text: "the lab is ending".to_owned(),
                broken: Vec::new(),
            })
        }
        Err(error) => Answer {
            ok: false,
            text: format!("not a request: {error}"),
            broken: Vec::new(),
        },
    };
    let mut text = serde_json::to_string(&answer).map_err(io::Error::other)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// Asks the lab behind `socket`.
pub fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        let text = format!(
            "no lab runs here ({}: {error}); start one with `cidrift-lab demo --hold`",
            socket.display()
        );
        io::Error::new(error.kind(), text)
    })?;
    let mut text = serde_json::to_string(request).map_err(io::Error::other)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reaches_the_lab_and_nonsense_is_answered_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let echo = |(request, answer): Asked| {
            let text = format!("{request:?}");
            let _ = answer.send(Answer {
                ok: true,
                text,
                broken: Vec::new(),
            });
        };
        listen(&socket, echo).unwrap();
        let answer = ask(&socket, &Request::Break("blackhole".to_owned())).unwrap();
        assert_eq!((answer.ok, answer.text.as_str()), (true, "Break(\"blackhole\")"));

        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"{\"destroy\": 1}\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let answer: Answer = serde_json::from_str(&line).unwrap();
        assert!(
            !answer.ok && answer.text.starts_with("not a request"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn a_second_lab_does_not_take_the_first_ones_socket_but_a_dead_ones() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        drop(UnixListener::bind(&socket).unwrap());
        listen(&socket, |_| {}).unwrap();
        assert!(listen(&socket, |_| {}).is_err());
    }
}

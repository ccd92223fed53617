//! Whole readings, of a service that answers what it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::view::host::Setting;

/// A kubelet's read-only port.
struct Served {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(String::new()));
        let body = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let body = body.lock().unwrap().clone();
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        Self { address, answer }
    }

    fn says(&self, calls: u64, failed: u64) {
        *self.answer.lock().unwrap() = format!(
            "kubelet_runtime_operations_duration_seconds_bucket{{operation_type=\"run_podsandbox\",le=\"+Inf\"}} {calls}\n\
             kubelet_runtime_operations_duration_seconds_sum{{operation_type=\"run_podsandbox\"}} {calls}\n\
             kubelet_runtime_operations_total{{operation_type=\"run_podsandbox\"}} {calls}\n\
             kubelet_runtime_operations_errors_total{{operation_type=\"run_podsandbox\"}} {failed}\n"
        );
    }

    fn kubelet(&self, more: &[(&str, &str)]) -> Observed<Vec<Process>> {
        let port = self.address.port().to_string();
        let settings = [("read-only-port", port.as_str()), ("address", "127.0.0.1")];
        let setting = |value: &str| Setting {
            value: value.to_owned(),
            source: "command line".to_owned(),
        };
        let settings = settings.iter().chain(more);
        let kubelet = Process {
            program: Program::Kubelet,
            embedded_in: None,
            pid: 7,
            started_at: None,
            settings: settings
                .map(|(name, value)| ((*name).to_owned(), setting(value)))
                .collect::<BTreeMap<_, _>>(),
            problem: None,
        };
        Observed::seen(Timestamp::UNIX_EPOCH, "/proc", vec![kubelet])
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn reader() -> MetricsReader {
    MetricsReader::new(HostRoot::new("/nonexistent"))
}

/// The reading that is due at this minute.
async fn minute(reader: &mut MetricsReader, processes: &Observed<Vec<Process>>, minute: i64) -> Observed<Operations> {
    let mut told = Vec::new();
    for look in 0..6 {
        told = reader.look(processes, at(minute * 60 + look * 10)).await;
    }
    assert_eq!(told.len(), 1);
    told.remove(0)
}

#[tokio::test]
async fn a_reading_stands_for_a_minute_and_growth_is_of_ten() {
    let served = Served::start().await;
    let processes = served.kubelet(&[]);
    let mut reader = reader();
    served.says(5, 1);
    let first = minute(&mut reader, &processes, 0).await;
    assert_eq!(first.at, at(0));
    assert_eq!(first.source, format!("kubelet's metrics at {}", served.address));
    let operations = first.get().unwrap();
    assert_eq!((operations.total.calls, operations.total.failed), (5, 1));
    assert_eq!(operations.grown, None);
    for number in 1..=20 {
        let number = u64::try_from(number).unwrap();
        served.says(5 + number, 1);
        let operations = minute(&mut reader, &processes, number.cast_signed())
            .await
            .value
            .unwrap();
        let (since, grown) = operations.grown.unwrap();
        assert_eq!(grown.calls, number.min(10));
        assert_eq!(since, at(60 * (number.cast_signed() - 10).max(0)));
    }
    // kubelet starts anew, and counts from 0.
    served.says(2, 2);
    let operations = minute(&mut reader, &processes, 21).await.value.unwrap();
    let (_, grown) = operations.grown.unwrap();
    assert_eq!((grown.calls, grown.failed), (9 + 2, 2));
}

#[tokio::test]
async fn one_reading_that_fails_hides_nothing_and_three_do() {
    let served = Served::start().await;
    let processes = served.kubelet(&[]);
    let mut reader = reader();
    served.says(5, 1);
    let good = minute(&mut reader, &processes, 0).await;
    *served.answer.lock().unwrap() = "<html>".to_owned();
    assert_eq!(minute(&mut reader, &processes, 1).await, good);
    assert_eq!(minute(&mut reader, &processes, 2).await, good);
    let bad = minute(&mut reader, &processes, 3).await;
    assert_eq!(bad.unreadable(), Some("it answers with something else than metrics"));
    served.says(6, 1);
    let operations = minute(&mut reader, &processes, 4).await.value.unwrap();
    assert_eq!(operations.grown.unwrap().1.calls, 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_begins_anew() {
    let served = Served::start().await;
    let processes = served.kubelet(&[]);
    let mut reader = reader();
    served.says(5, 1);
    minute(&mut reader, &processes, 100).await;
    served.says(9, 1);
    assert_eq!(minute(&mut reader, &processes, 10).await.get().unwrap().grown, None);
}

#[tokio::test]
async fn a_port_that_is_closed_is_a_fact_and_no_fault() {
    let served = Served::start().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let port = free.port().to_string();
    let processes = served.kubelet(&[("read-only-port", &port)]);
    let told = minute(&mut reader(), &processes, 0).await;
    assert_eq!(told.value, Err(Missing::Absent("nothing listens there".to_owned())));
}

#[tokio::test]
async fn where_processes_are_not_to_be_seen_nobody_is_asked() {
    let unseen = Observed::missing(at(0), "/proc", Missing::Unreadable("x".to_owned()));
    assert_eq!(reader().look(&unseen, at(0)).await, []);
}

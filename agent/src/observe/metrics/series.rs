//! Which series of a program say how sandboxes are set up, and what they come to.

use std::collections::BTreeMap;

use super::text::{NotMetrics, Sample};
use crate::view::host::Program;
use crate::view::setup::{Counted, Counting};

/// Edges of a histogram that are kept; client libraries have eleven by default.
const EDGES: usize = 64;

/// So many lines must be metrics before those that nobody asks for are passed over: some thousands, of every container,
/// stand before the few that count.
const CHECKED: u32 = 16;

/// What a series is to its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Calls,
    Failed,
    Seconds,
    Micros,
    Within,
}

/// The series of one program.
struct Known {
    of: Counting,
    /// A label that tells operations apart, under any of these names, and the operation.
    operation: (&'static [&'static str], &'static str),
    series: &'static [(&'static str, Part)],
}

/// containerd 1.6 to 2.4, CRI plugin: docker/go-metrics puts the unit behind the name, also where the name has it.
/// Its calls are those of the network plugin; it does not count calls for a sandbox.
const CONTAINERD: Known = Known {
    of: Counting::Networks,
    operation: (&["operation_type"], "set_up_pod"),
    series: &[
        ("containerd_cri_network_plugin_operations_total_total", Part::Calls),
        (
            "containerd_cri_network_plugin_operations_errors_total_total",
            Part::Failed,
        ),
        (
            "containerd_cri_network_plugin_operations_duration_seconds_seconds_sum",
            Part::Seconds,
        ),
        (
            "containerd_cri_network_plugin_operations_duration_seconds_seconds_bucket",
            Part::Within,
        ),
    ],
};

/// CRI-O (server/metrics/collectors): the subsystem is `container_runtime` and names begin with `crio_`; older ones are in
/// microseconds and without `_total`. Only its tutorial leaves the subsystem out.
const CRIO: Known = Known {
    of: Counting::Sandboxes,
    operation: (&["operation", "operation_type"], "RunPodSandbox"),
    series: &[
        ("container_runtime_crio_operations_total", Part::Calls),
        ("container_runtime_crio_operations_errors_total", Part::Failed),
        (
            "container_runtime_crio_operations_latency_seconds_total_sum",
            Part::Seconds,
        ),
        ("container_runtime_crio_operations", Part::Calls),
        ("container_runtime_crio_operations_errors", Part::Failed),
        (
            "container_runtime_crio_operations_latency_microseconds_total_sum",
            Part::Micros,
        ),
        (
            "container_runtime_crio_operations_latency_microseconds_sum",
            Part::Micros,
        ),
    ],
};

/// kubelet (pkg/kubelet/metrics): its calls to the runtime; what failed is counted and timed as well. It has a series of
/// its own for sandboxes (`run_podsandbox_duration_seconds`), whose times are of microseconds in releases that took the
/// time before the call: they are in no use here.
const KUBELET: Known = Known {
    of: Counting::Sandboxes,
    operation: (&["operation_type"], "run_podsandbox"),
    series: &[
        ("kubelet_runtime_operations_total", Part::Calls),
        ("kubelet_runtime_operations_errors_total", Part::Failed),
        ("kubelet_runtime_operations_duration_seconds_sum", Part::Seconds),
        ("kubelet_runtime_operations_duration_seconds_bucket", Part::Within),
    ],
};

fn known(program: Program) -> Option<&'static Known> {
    match program {
        Program::Containerd => Some(&CONTAINERD),
        Program::Crio => Some(&CRIO),
        Program::Kubelet => Some(&KUBELET),
        _ => None,
    }
}

/// What a program counts.
pub(super) fn counting(program: Program) -> Counting {
    known(program).map_or(Counting::Sandboxes, |known| known.of)
}

/// Takes in a program's metrics, line by line.
pub(super) struct Sum {
    known: Option<&'static Known>,
    checked: u32,
    /// It counts calls of some kind.
    counts: bool,
    counted: Counted,
    within: BTreeMap<u64, u64>,
}

impl Sum {
    /// Of this program.
    pub(super) fn new(program: Program) -> Self {
        Self {
            known: known(program),
            checked: 0,
            counts: false,
            counted: Counted::default(),
            within: BTreeMap::new(),
        }
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: &str) -> Result<(), NotMetrics> {
        let mut series = self.known.iter().flat_map(|known| known.series);
        let part = series.find(|(name, _)| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ', '\t']))
        });
        if part.is_none() && self.checked >= CHECKED {
            return Ok(());
        }
        let Some(sample) = Sample::read(line)? else {
            return Ok(());
        };
        self.checked = self.checked.saturating_add(1);
        if let (Some((_, part)), Some(known)) = (part, self.known) {
            self.counts |= *part == Part::Calls;
            self.add(known, *part, &sample);
        }
        Ok(())
    }

    fn add(&mut self, known: &Known, part: Part, sample: &Sample<'_>) {
        let (labels, operation) = known.operation;
        let mut named = labels.iter().filter_map(|label| sample.label(label));
        if !named.any(|name| name == operation) {
            return;
        }
        let counted = &mut self.counted;
        match part {
            Part::Calls => counted.calls = counted.calls.saturating_add(whole(sample.value)),
            Part::Failed => counted.failed = counted.failed.saturating_add(whole(sample.value)),
            Part::Seconds => counted.micros = counted.micros.saturating_add(whole(sample.value * 1e6)),
            Part::Micros => counted.micros = counted.micros.saturating_add(whole(sample.value)),
            Part::Within => {
                let edge = sample.label("le").and_then(|edge| edge.parse::<f64>().ok());
                // Negative or NaN: no edge of a time.
                let Some(edge) = edge.filter(|edge| *edge >= 0.0) else {
                    return;
                };
                let edge = whole(edge * 1e6);
                if self.within.len() < EDGES || self.within.contains_key(&edge) {
                    let count = self.within.entry(edge).or_default();
                    *count = count.saturating_add(whole(sample.value));
                }
            }
        }
    }

    /// What it came to; `None`: it counts other things than calls. containerd shows what it counts from the first call on,
    /// and the others cannot have made none: kubelet asks for their version when it starts. `Err`: not one line was a metric.
    pub(super) fn end(mut self) -> Result<Option<Counted>, NotMetrics> {
        if self.checked == 0 {
            return Err(NotMetrics);
        }
        let from_the_first = self.known.is_some_and(|known| known.of == Counting::Networks);
        if !self.counts && !from_the_first {
            return Ok(None);
        }
        // Without its last edge a histogram does not say what lies beyond.
        if self.within.contains_key(&u64::MAX) {
            self.counted.within = self.within.into_iter().collect();
        }
        Ok(Some(self.counted))
    }
}

/// The nearest whole number; 0 for what is below it and for NaN, and the largest for what is above it.
fn whole(value: f64) -> u64 {
    // Casts of floats saturate.
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Real answers of containerd 1.6.20 (Debian) and 2.4.2 with `[metrics] address = "127.0.0.1:1338"`, after five
    /// sandboxes with a network, one that failed for want of an address, and one of the host's network:
    /// `curl -s 127.0.0.1:1338/v1/metrics`, without the lines of containers and of single gRPC calls but for the first.
    const CONTAINERD_1_6: &str = include_str!("fixtures/containerd-1.6.20.txt");
    const CONTAINERD_2_4: &str = include_str!("fixtures/containerd-2.4.2.txt");

    /// One that counts calls.
    fn sum(program: Program, text: &str) -> Result<Counted, NotMetrics> {
        let mut sum = Sum::new(program);
        text.lines().try_for_each(|line| sum.line(line))?;
        Ok(sum.end()?.unwrap())
    }

    #[test]
    fn both_containerds_count_the_networks_that_they_set_up() {
        for (text, micros, slowest) in [(CONTAINERD_1_6, 103_714, 50), (CONTAINERD_2_4, 94_016, 25)] {
            let counted = sum(Program::Containerd, text).unwrap();
            assert_eq!((counted.calls, counted.failed, counted.micros), (6, 1, micros));
            assert_eq!(counted.within.len(), 12);
            assert_eq!(counted.slowest(), Some(Ok(Duration::from_millis(slowest))));
            assert_eq!(counted.mean(), Some(Duration::from_micros(micros / 6)));
        }
    }

    /// As CRI-O's documentation has it (tutorials/metrics.md), of a version before and one after the names changed.
    #[test]
    fn cri_o_counts_its_sandboxes_under_both_names() {
        let text = "# TYPE container_runtime_crio_operations_total counter\n\
            container_runtime_crio_operations_errors_total{operation=\"ContainerStatus\"} 5\n\
            container_runtime_crio_operations_errors_total{operation=\"RunPodSandbox\"} 2\n\
            container_runtime_crio_operations_latency_seconds{operation=\"RunPodSandbox\"} 0.123417422\n\
            container_runtime_crio_operations_latency_seconds_total{operation=\"RunPodSandbox\",quantile=\"0.5\"} NaN\n\
            container_runtime_crio_operations_latency_seconds_total_sum{operation=\"RunPodSandbox\"} 0.76309194\n\
            container_runtime_crio_operations_latency_seconds_total_count{operation=\"RunPodSandbox\"} 6\n\
            container_runtime_crio_operations_total{operation=\"ListContainers\"} 6666\n\
            container_runtime_crio_operations_total{operation=\"RunPodSandbox\"} 6\n";
        let counted = sum(Program::Crio, text).unwrap();
        assert_eq!((counted.calls, counted.failed, counted.micros), (6, 2, 763_092));
        assert_eq!(counted.slowest(), None);
        let text = "container_runtime_crio_operations{operation_type=\"RunPodSandbox\"} 4\n\
            container_runtime_crio_operations_errors{operation_type=\"RunPodSandbox\"} 1\n\
            container_runtime_crio_operations_latency_microseconds_total_sum{operation_type=\"RunPodSandbox\"} 800\n";
        let counted = sum(Program::Crio, text).unwrap();
        assert_eq!((counted.calls, counted.failed, counted.micros), (4, 1, 800));
    }

    #[test]
    fn one_that_does_not_count_calls_has_not_made_none() {
        let read = |text: &str| {
            let mut sum = Sum::new(Program::Crio);
            text.lines().for_each(|line| sum.line(line).unwrap());
            sum.end().unwrap()
        };
        assert_eq!(read("container_runtime_crio_image_pulls_layer_size_count 3\n"), None);
        let other = "container_runtime_crio_operations_total{operation=\"Version\"} 6\n";
        assert_eq!(read(other), Some(Counted::default()));
    }

    /// As pkg/kubelet/metrics defines them.
    #[test]
    fn kubelet_counts_its_calls_to_the_runtime() {
        let text = "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"run_podsandbox\",le=\"0.25\"} 1\n\
            kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"run_podsandbox\",le=\"+Inf\"} 4\n\
            kubelet_runtime_operations_duration_seconds_sum{operation_type=\"run_podsandbox\"} 43.5\n\
            kubelet_runtime_operations_duration_seconds_sum{operation_type=\"version\"} 7\n\
            kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 2\n\
            kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 4\n\
            kubelet_runtime_operations_total{operation_type=\"version\"} 90\n\
            kubelet_run_podsandbox_duration_seconds_sum{runtime_handler=\"\"} 0.000002\n\
            kubelet_running_pods 7\n";
        let counted = sum(Program::Kubelet, text).unwrap();
        assert_eq!((counted.calls, counted.failed, counted.micros), (4, 2, 43_500_000));
        assert_eq!(counted.within, [(250_000, 1), (u64::MAX, 4)]);
        assert_eq!(counted.slowest(), Some(Err(Duration::from_millis(250))));
    }

    #[test]
    fn a_program_that_has_set_up_nothing_counts_nothing_and_rubbish_is_none() {
        let counted = sum(Program::Containerd, "# HELP x y\ngo_goroutines 12\n");
        assert_eq!(counted, Ok(Counted::default()));
        for text in [
            "",
            "# HELP x y\n",
            "<html>\n",
            "404 page not found",
            "go_goroutines 1\n<html>",
        ] {
            assert_eq!(sum(Program::Containerd, text), Err(NotMetrics), "{text}");
        }
        let torn = CONTAINERD_2_4.find("duration_seconds_seconds_sum{operation").unwrap();
        assert_eq!(sum(Program::Containerd, &CONTAINERD_2_4[..torn + 30]), Err(NotMetrics));
    }

    proptest! {
        #[test]
        fn any_lines_are_taken_without_a_panic_and_kept_within_bounds(
            lines in prop::collection::vec((0..4usize, "(\\{operation_type=\"set_up_pod\",le=\"[0-9.eInf+-]{1,6}\"\\}|)", any::<f64>()), 0..200),
        ) {
            let mut sum = Sum::new(Program::Containerd);
            for (series, labels, value) in lines {
                let _ = sum.line(&format!("{}{labels} {value}", CONTAINERD.series[series].0));
            }
            prop_assert!(sum.within.len() <= EDGES);
            if let Ok(Some(counted)) = sum.end() {
                let _ = (counted.slowest(), counted.mean());
            }
        }

        #[test]
        fn any_text_is_too(text in "(kubelet_runtime_operations_total|[a-z]{0,3}|\\{|\\}|\"|le=| |\n|[0-9]{1,25}|NaN){0,60}") {
            let mut sum = Sum::new(Program::Kubelet);
            let _ = text.lines().try_for_each(|line| sum.line(line));
            let _ = sum.end();
        }
    }
}

//! Policy rules: which tables a packet is looked up in (`fib_rules_lookup`).

use std::collections::BTreeSet;

use cidrift_proto::facts::LinkRole;
use cidrift_proto::landing::Discard;
use ipnet::IpNet;

use crate::view::{Kernel, Route, Rule, RuleAction};

use super::flow::{Input, Query, Source, contains};
use super::roles::Roles;
use super::table::{self, Answer, DEFAULT, LOCAL, MAIN, Outcome, TOS_MASK};

/// The rules of one family, in order.
#[derive(Debug)]
pub(crate) struct Ruleset<'k> {
    ipv6: bool,
    rules: Vec<&'k Rule>,
    /// No rule was ever made, as far as can be seen: the kernel does not ask them.
    untouched: bool,
}

/// Whether a rule's selectors match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matched {
    Yes,
    No,
    /// It depends on what is not known of the packet; with the selector.
    Depends(&'static str),
}

impl<'k> Ruleset<'k> {
    pub(crate) fn new(kernel: &'k Kernel, ipv6: bool) -> Self {
        let mut rules: Vec<&Rule> = kernel.rules.iter().filter(|rule| rule.ipv6 == ipv6).collect();
        rules.sort_by_key(|rule| rule.priority);
        let untouched = untouched(&rules, ipv6);
        Self { ipv6, rules, untouched }
    }

    /// Looks `query` up, rule by rule.
    pub(crate) fn decide(&self, kernel: &'k Kernel, roles: &Roles, query: &Query) -> Outcome<'k> {
        if self.untouched {
            return if self.ipv6 {
                initial_v6(kernel, query)
            } else {
                initial_v4(kernel, query)
            };
        }
        let mut dead: Option<&'k Route> = None;
        let mut at = 0;
        while let Some(rule) = self.rules.get(at) {
            at += 1;
            let matched = matches(kernel, roles, rule, query);
            if matched == Matched::No {
                continue;
            }
            if let Some(what) = &rule.unmodelled
                && !passes_unmodelled(kernel, what, query)
            {
                return Outcome::Unknown(
                    format!("rule {} uses {what}, which is not modelled", rule.priority),
                    None,
                );
            } else if rule.unmodelled.is_some() {
                continue;
            }
            let outcome = match rule.action {
                RuleAction::Nop => continue,
                RuleAction::Goto(target) => {
                    // A target that does not exist leaves the rule without effect.
                    let Some(jump) = self.position(target, at) else {
                        continue;
                    };
                    if let Matched::Depends(selector) = matched {
                        return undecided(rule, selector);
                    }
                    at = jump;
                    continue;
                }
                RuleAction::Blackhole => Outcome::Discard(Discard::Blackhole, None),
                RuleAction::Unreachable => Outcome::Discard(Discard::Unreachable, None),
                RuleAction::Prohibit => Outcome::Discard(Discard::Prohibit, None),
                RuleAction::Table(table) => match table::look(kernel, table, query) {
                    Answer::Found(outcome) if suppressed(rule, &outcome) => continue,
                    Answer::Found(outcome) => outcome,
                    Answer::Miss(skipped) => {
                        dead = dead.or(skipped);
                        continue;
                    }
                },
            };
            return match matched {
                Matched::Depends(selector) => undecided(rule, selector),
                _ => outcome,
            };
        }
        Outcome::NoRoute(dead)
    }

    /// The first rule of that priority at or after `from`: the kernel takes forward jumps only.
    fn position(&self, priority: u32, from: usize) -> Option<usize> {
        let at = self.rules.partition_point(|rule| rule.priority < priority);
        (at >= from && self.rules.get(at)?.priority == priority).then_some(at)
    }

    /// Tables that a packet like `query` may be looked up in, whatever its
    /// destination, and the destinations that rules ask for.
    pub(crate) fn reach(&self, kernel: &Kernel, roles: &Roles, query: &Query) -> Reach {
        let mut tables = BTreeSet::new();
        let mut destinations = BTreeSet::new();
        if self.untouched {
            tables.extend([LOCAL, MAIN, DEFAULT]);
        }
        for rule in &self.rules {
            let elsewhere = matches_but_destination(kernel, roles, rule, query) == Matched::No;
            if elsewhere && !rule.invert {
                continue;
            }
            if let RuleAction::Table(table) = rule.action {
                tables.insert(table);
            }
            destinations.extend(rule.destination);
        }
        Reach { tables, destinations }
    }
}

/// What lookups of one kind of packet depend on, besides its destination.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Tables that may be consulted.
    pub(crate) tables: BTreeSet<u32>,
    /// Destinations that rules ask for.
    pub(crate) destinations: BTreeSet<IpNet>,
}

/// The rules of a new namespace, and nothing else. For IPv6 some may be gone:
/// taking one away does not make the kernel ask the rest, as making one does.
/// (A namespace that had other rules and lost them looks the same from outside.)
fn untouched(rules: &[&Rule], ipv6: bool) -> bool {
    let initial: &[(u32, u32)] = match ipv6 {
        false => &[(0, LOCAL), (32766, MAIN), (32767, DEFAULT)],
        true => &[(0, LOCAL), (32766, MAIN)],
    };
    let is_initial = |rule: &Rule| {
        initial
            .iter()
            .any(|(priority, table)| rule.priority == *priority && rule.action == RuleAction::Table(*table))
            && selects_all(rule)
    };
    (ipv6 || rules.len() == initial.len()) && rules.iter().all(|rule| is_initial(rule))
}

fn selects_all(rule: &Rule) -> bool {
    let Rule {
        ipv6: _,
        priority: _,
        action: _,
        invert,
        source,
        destination,
        iif,
        oif,
        mark,
        tos,
        ip_protocol,
        source_ports,
        destination_ports,
        uids,
        suppress_prefix_length,
        unmodelled,
    } = rule;
    !invert
        && source.is_none()
        && destination.is_none()
        && iif.is_none()
        && oif.is_none()
        && mark.is_none()
        && *tos == 0
        && ip_protocol.is_none()
        && source_ports.is_none()
        && destination_ports.is_none()
        && uids.is_none()
        && suppress_prefix_length.is_none()
        && unmodelled.is_none()
}

/// `fib_lookup` of a namespace without own rules: local and main in one, then table default.
fn initial_v4<'k>(kernel: &'k Kernel, query: &Query) -> Outcome<'k> {
    in_turn(table::look_merged(kernel, query), || {
        table::look(kernel, DEFAULT, query)
    })
}

/// `fib6_rule_lookup` of a namespace without own rules: local, then main.
fn initial_v6<'k>(kernel: &'k Kernel, query: &Query) -> Outcome<'k> {
    in_turn(table::look(kernel, LOCAL, query), || table::look(kernel, MAIN, query))
}

fn in_turn<'k>(first: Answer<'k>, second: impl FnOnce() -> Answer<'k>) -> Outcome<'k> {
    let dead = match first {
        Answer::Found(outcome) => return outcome,
        Answer::Miss(dead) => dead,
    };
    match second() {
        Answer::Found(outcome) => outcome,
        Answer::Miss(skipped) => Outcome::NoRoute(dead.or(skipped)),
    }
}

fn undecided<'k>(rule: &Rule, selector: &str) -> Outcome<'k> {
    Outcome::Unknown(
        format!(
            "rule {} decides by {selector}: not the same for every pod",
            rule.priority
        ),
        None,
    )
}

/// `suppress_prefixlength`: only what would be forwarded or delivered is suppressed, never a discard.
fn suppressed(rule: &Rule, outcome: &Outcome<'_>) -> bool {
    let Some(limit) = rule.suppress_prefix_length else {
        return false;
    };
    match outcome {
        Outcome::Forward(route, _) | Outcome::Host(route) => u32::from(route.prefix.prefix_len()) <= limit,
        _ => false,
    }
}

/// An l3mdev rule looks at a VRF's table; it passes every packet whose device belongs to none.
fn passes_unmodelled(kernel: &Kernel, what: &str, query: &Query) -> bool {
    let in_vrf = |index: u32| match kernel.links.get(&index) {
        Some(link) => {
            link.kind == "vrf"
                || link
                    .master
                    .is_some_and(|master| kernel.links.get(&master).is_none_or(|master| master.kind == "vrf"))
        }
        None => true,
    };
    let any_vrf = || kernel.links.values().any(|link| link.kind == "vrf");
    what == "l3mdev"
        && match query.input {
            Input::Host => query.output.is_none_or(|index| !in_vrf(index)),
            Input::Device(index) => !in_vrf(index),
            Input::SomePod => !any_vrf(),
        }
}

/// All selectors (`fib_rule_match`, `fib4_rule_match`, `fib6_rule_match`).
fn matches(kernel: &Kernel, roles: &Roles, rule: &Rule, query: &Query) -> Matched {
    let destination = rule.destination.is_none_or(|to| contains(to, query.destination));
    let matched = if destination {
        selectors(kernel, roles, rule, query)
    } else {
        Matched::No
    };
    inverted(rule, matched)
}

/// All selectors but the destination. For a rule with `not` that has one, the answer is of no use.
fn matches_but_destination(kernel: &Kernel, roles: &Roles, rule: &Rule, query: &Query) -> Matched {
    inverted(rule, selectors(kernel, roles, rule, query))
}

fn inverted(rule: &Rule, matched: Matched) -> Matched {
    match matched {
        Matched::Yes if rule.invert => Matched::No,
        Matched::No if rule.invert => Matched::Yes,
        other => other,
    }
}

fn selectors(kernel: &Kernel, roles: &Roles, rule: &Rule, query: &Query) -> Matched {
    let tos = if rule.ipv6 {
        query.tos & 0xfc
    } else {
        query.tos & TOS_MASK
    };
    let in_ports = |ports: Option<(u16, u16)>, port: u16| ports.is_none_or(|(low, high)| (low..=high).contains(&port));
    let plain = rule.mark.is_none_or(|(value, mask)| (value ^ query.mark) & mask == 0)
        && (rule.tos == 0 || rule.tos == tos)
        && rule.ip_protocol.is_none_or(|protocol| protocol == query.ip_protocol)
        && in_ports(rule.source_ports, query.source_port)
        && in_ports(rule.destination_ports, query.destination_port)
        && rule.uids.is_none_or(|(low, high)| (low..=high).contains(&query.uid))
        && output_matches(kernel, rule, query);
    if !plain {
        return Matched::No;
    }
    match (input_matches(kernel, roles, rule, query), source_matches(rule, query)) {
        (Matched::No, _) | (_, Matched::No) => Matched::No,
        (Matched::Yes, Matched::Yes) => Matched::Yes,
        (depends @ Matched::Depends(_), _) | (_, depends) => depends,
    }
}

fn source_matches(rule: &Rule, query: &Query) -> Matched {
    let Some(from) = rule.source.filter(|from| from.prefix_len() > 0) else {
        return Matched::Yes;
    };
    match query.source {
        Source::Unspecified => unspecified_matches(from),
        // A rule for a part of the prefix is one for particular pods, not for any.
        Source::Within(source) if contains(from, source) => Matched::Yes,
        Source::Within(_) => Matched::No,
        Source::Unknown => Matched::Depends("from"),
    }
}

/// IPv4 compares 0.0.0.0 like any address; IPv6 never matches without a source.
fn unspecified_matches(from: IpNet) -> Matched {
    match from {
        IpNet::V4(from) if from.contains(&std::net::Ipv4Addr::UNSPECIFIED) => Matched::Yes,
        _ => Matched::No,
    }
}

fn input_matches(kernel: &Kernel, roles: &Roles, rule: &Rule, query: &Query) -> Matched {
    let Some(wanted) = rule.iif.as_deref() else {
        return Matched::Yes;
    };
    let yes = match query.input {
        Input::Host => wanted == "lo",
        Input::Device(index) => kernel.links.get(&index).is_some_and(|link| link.name == wanted),
        Input::SomePod => {
            // A rule for a device that does not exist never matches.
            let link = kernel.links.values().find(|link| link.name == wanted);
            return match link.and_then(|link| roles.get(&link.index)) {
                Some(LinkRole::Bridge | LinkRole::PodPort | LinkRole::Other) => Matched::Depends("iif"),
                Some(LinkRole::Loopback | LinkRole::Uplink | LinkRole::Tunnel) | None => Matched::No,
            };
        }
    };
    if yes { Matched::Yes } else { Matched::No }
}

fn output_matches(kernel: &Kernel, rule: &Rule, query: &Query) -> bool {
    let Some(wanted) = rule.oif.as_deref() else {
        return true;
    };
    query
        .output
        .and_then(|index| kernel.links.get(&index))
        .is_some_and(|link| link.name == wanted)
}

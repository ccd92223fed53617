//! A lab that is kept running for people: breaks come and go as they ask.

use std::collections::BTreeMap;

use crate::breaks::{Break, Plan};
use crate::control::{Answer, Request};
use crate::reach::pairs;
use crate::world::World;

/// The breaks in force, with what takes them back.
#[derive(Debug, Default)]
pub struct Held {
    broken: BTreeMap<&'static str, Plan>,
}

impl Held {
    /// Does what is asked.
    pub fn answer(&mut self, world: &mut World, request: &Request) -> Answer {
        let done = match request {
            Request::Break(name) => self.breakage(world, name),
            Request::Mend(name) => self.mend(world, name),
            Request::Breaks => Ok(String::new()),
            Request::Down => Ok("the lab ends".to_owned()),
        };
        let broken = self.broken.keys().map(|&name| name.to_owned()).collect();
        match done {
            Ok(text) => Answer { ok: true, text, broken },
            Err(text) => Answer {
                ok: false,
                text,
                broken,
            },
        }
    }

    fn breakage(&mut self, world: &mut World, name: &str) -> Result<String, String> {
        let which = known(name)?;
        if self.broken.contains_key(which.name()) {
            return Err(format!("{name} is in force already"));
        }
        let dataplane = world.topology.plan.dataplane;
        let plan = which
            .plan(world)
            .ok_or_else(|| format!("{name} does not apply to {dataplane}"))?;
        for (applied, step) in plan.steps.iter().enumerate() {
            if let Err(error) = world.apply(step) {
                let left = if applied == 0 { 0 } else { take_back(world, &plan) };
                let left = if left == 0 {
                    String::new()
                } else {
                    format!(" ({left} steps could not be taken back)")
                };
                return Err(format!("{error}; another break may be in the way{left}"));
            }
        }
        let mut text = String::new();
        for step in &plan.steps {
            text.push_str(&format!("{step}\n"));
        }
        let expected = &plan.expected;
        text.push_str(&format!("expected: {} on {}", expected.code, expected.subject));
        text.push_str(&format!("; pings that fail: {}", pairs(&plan.silent)));
        self.broken.insert(which.name(), plan);
        Ok(text)
    }

    fn mend(&mut self, world: &mut World, name: &str) -> Result<String, String> {
        let which = known(name)?;
        let plan = self
            .broken
            .get(which.name())
            .ok_or_else(|| format!("{name} is not in force"))?;
        world.apply_all(&plan.undo).map_err(|error| error.to_string())?;
        let lines: Vec<String> = plan.undo.iter().map(ToString::to_string).collect();
        self.broken.remove(which.name());
        Ok(lines.join("\n"))
    }
}

/// Takes back what can be, and counts what cannot: a step that does not apply
/// must not hide why the break failed.
fn take_back(world: &mut World, plan: &Plan) -> usize {
    plan.undo.iter().filter(|step| world.apply(step).is_err()).count()
}

fn known(name: &str) -> Result<Break, String> {
    Break::named(name).ok_or_else(|| {
        let names: Vec<&str> = Break::ALL.iter().map(|which| which.name()).collect();
        format!("{name:?} is not a break; these are: {}", names.join(", "))
    })
}

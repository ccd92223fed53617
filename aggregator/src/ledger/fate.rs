//! What becomes of a finding, or of a row of it, that is not claimed any more.

use cidrift_proto::finding::{Affected, Claim, ROWS};

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Evidence shows that it is over; the evidence, in words.
    Gone(String),
    /// Nobody who could tell can be asked; why.
    Unseen(String),
    /// It is still so, though not claimed at the moment.
    Still,
}

/// What becomes of a finding.
pub(super) enum Ending {
    /// It is over.
    Over(String),
    /// It stands, with these rows; `unseen` is not empty where somebody could not be asked.
    Stands { rows: Vec<Affected>, unseen: Vec<String> },
}

/// Asks for every row of a claim that nobody makes any more.
pub(super) fn of_all(claim: &Claim, fate: &dyn Fn(&Claim, Option<&Affected>) -> Fate) -> Ending {
    let mut unseen = Vec::new();
    let mut reasons = Vec::new();
    if claim.affected.is_empty() {
        return match fate(claim, None) {
            Fate::Gone(reason) => Ending::Over(reason),
            Fate::Unseen(why) => Ending::Stands {
                rows: Vec::new(),
                unseen: vec![why],
            },
            Fate::Still => Ending::Stands {
                rows: Vec::new(),
                unseen,
            },
        };
    }
    let mut rows = Vec::new();
    for row in &claim.affected {
        match fate(claim, Some(row)) {
            Fate::Gone(reason) => reasons.push(reason),
            Fate::Unseen(why) => {
                rows.push(row.clone());
                unseen.push(why);
            }
            Fate::Still => rows.push(row.clone()),
        }
    }
    unseen.sort();
    unseen.dedup();
    if rows.is_empty() {
        reasons.dedup();
        reasons.truncate(4);
        Ending::Over(reasons.join("; "))
    } else {
        Ending::Stands { rows, unseen }
    }
}

/// Takes rows of the earlier claim over into the new one where nothing shows that they are gone.
pub(super) fn carry_over(before: &Claim, claim: &mut Claim, fate: &dyn Fn(&Claim, Option<&Affected>) -> Fate) {
    let mut carried = 0u32;
    for row in &before.affected {
        let again = claim
            .affected
            .iter()
            .any(|new| new.prefix == row.prefix && new.node == row.node);
        // Where rows were cut off nothing can be said of one that is missing.
        if again || claim.affected.len() >= ROWS {
            continue;
        }
        if let Fate::Unseen(why) = fate(before, Some(row)) {
            claim.affected.push(row.clone());
            carried = carried.saturating_add(1);
            if !claim.unseen.contains(&why) && claim.unseen.len() < ROWS {
                claim.unseen.push(why);
            }
        }
    }
    if carried > 0 {
        claim.affected.sort();
        claim.affected_total = claim.affected_total.saturating_add(carried);
    }
}

//! SEEN02 agent-restricted: something that is there cannot be read, so that what rests on it is unknown.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Evidence};

use super::{Input, Judged, Says};

const CODE: Code = Code::Seen02;

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    let mut rows = input.host.unreadable();
    let kernel = input.kernel_gaps.iter();
    rows.extend(kernel.map(|gap| (format!("the kernel's {}", gap.what), gap.why.clone())));
    if rows.is_empty() {
        return;
    }
    let summary = match rows.as_slice() {
        [(what, _)] => format!("the agent of {} cannot read {what}", input.node),
        more => format!("the agent of {} cannot read {} things", input.node, more.len()),
    };
    let affected = rows.iter().map(|(what, why)| Affected {
        prefix: None,
        node: Some(input.node.to_owned()),
        detail: format!("{what}: {why}"),
    });
    let evidence = rows.iter().map(|(what, why)| Evidence {
        source: format!("agent of {}", input.node),
        text: format!("{what}: {why}"),
        observed_at: Some(input.now),
        stale: false,
    });
    let says = Says {
        summary,
        affected: affected.collect(),
        evidence: evidence.collect(),
        unseen: Vec::new(),
        cause: "Each text says why: a right or a mount that the agent lacks, something that hangs, that is damaged, or that is \
                larger than what is read of it."
            .to_owned(),
        remedy: "Mend what the text names. Where it is a right: run the agent as root, with the host's directories below \
                 --host-root. What rests on it is unknown until then."
            .to_owned(),
    };
    judged.claims.push(input.claim(CODE, says, None));
}

//! Lines out of chunks of bytes, whatever they are: a line longer than the limit is cut, and costs no more than that.

/// Longer lines are cut: journald cuts at 48 KiB (LineMax), and no line that is looked for is longer than a few.
pub(in crate::observe) const LONGEST: usize = 64 << 10;

/// Puts chunks together to lines.
#[derive(Debug, Default)]
pub(in crate::observe) struct Lines {
    pending: Vec<u8>,
    /// The rest of this line is not wanted.
    skipping: bool,
}

impl Lines {
    /// What comes first begins in the middle of a line.
    pub(in crate::observe) fn skip_first(&mut self) {
        self.pending.clear();
        self.skipping = true;
    }

    /// What comes next has nothing to do with what came before.
    pub(in crate::observe) fn restart(&mut self) {
        self.pending.clear();
        self.skipping = false;
    }

    /// Takes a chunk; hands on the lines that end in it, without their ends.
    pub(in crate::observe) fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(&str)) {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            // Most lines are whole in their chunk, and need no place of their own.
            if self.pending.is_empty() && !self.skipping && line.len() <= LONGEST {
                each(String::from_utf8_lossy(line).trim_end_matches('\r'));
                continue;
            }
            self.add(line, each);
            if !self.skipping {
                each(String::from_utf8_lossy(&self.pending).trim_end_matches('\r'));
            }
            self.restart();
        }
        self.add(rest, each);
    }

    fn add(&mut self, part: &[u8], each: &mut dyn FnMut(&str)) {
        if self.skipping {
            return;
        }
        let room = LONGEST - self.pending.len();
        self.pending.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            each(&String::from_utf8_lossy(&self.pending));
            self.skip_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<String>, usize) {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        let mut most = 0;
        for chunk in chunks {
            lines.push(chunk, &mut |line| all.push(line.to_owned()));
            most = most.max(lines.pending.capacity());
        }
        (all, most)
    }

    #[test]
    fn a_line_of_ten_megabytes_is_cut_and_the_next_one_is_whole() {
        let chunk = vec![b'x'; 1 << 20];
        let mut chunks: Vec<&[u8]> = vec![&chunk; 10];
        chunks.push(b"\nnext\n");
        let (all, most) = lines(&chunks);
        assert_eq!((all.len(), all[0].len(), all[1].as_str()), (2, LONGEST, "next"));
        assert!(most <= 2 * LONGEST, "{most}");
    }

    #[test]
    fn a_torn_line_waits_for_its_end() {
        let (all, _) = lines(&[b"one\r\ntw", b"o\nthr"]);
        assert_eq!(all, ["one", "two"]);
    }

    proptest! {
        #[test]
        fn how_bytes_come_makes_no_difference(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(0u8), any::<u8>()], 0..400), cut in 0usize..400) {
            let (whole, _) = lines(&[&bytes]);
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            let (split, _) = lines(&[left, right]);
            prop_assert_eq!(whole, split);
        }
    }
}

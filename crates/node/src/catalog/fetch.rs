//! One module on its way to this server, in pieces, from whichever member has it.

use crate::replication::NodeId;

use super::limits::Limits;
use super::mutant::CatalogMutant;

/// A module on its way. Pieces are taken in order; those that come too early are asked for again.
#[derive(Debug)]
pub(super) struct Fetch {
    size: u64,
    buffer: Vec<u8>,
    /// Bytes that were asked for.
    requested: u64,
    source: Option<NodeId>,
    /// When the source was chosen, or has sent a piece.
    heard_ms: u64,
    /// Counts the sources that were asked.
    turn: usize,
    /// Sources that have sent nothing since the last piece.
    in_vain: usize,
    /// Pauses since the last piece.
    pauses: u32,
    paused_until_ms: u64,
}

impl Fetch {
    /// Nothing is there yet. `turn` says which source is asked first.
    pub fn new(size: u64, turn: usize) -> Fetch {
        Fetch {
            size,
            buffer: Vec::new(),
            requested: 0,
            source: None,
            heard_ms: 0,
            turn,
            in_vain: 0,
            pauses: 0,
            paused_until_ms: 0,
        }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn turn(&self) -> usize {
        self.turn
    }

    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_paused(&self, now_ms: u64) -> bool {
        self.source.is_none() && now_ms < self.paused_until_ms
    }

    /// Somebody needs the module at once.
    pub fn hurry(&mut self) {
        self.paused_until_ms = 0;
    }

    /// Time passes. Gives whom to ask for which offsets. The first of the `sources` is asked first.
    pub fn tick(&mut self, sources: &[NodeId], now_ms: u64, limits: &Limits) -> Vec<(NodeId, u64)> {
        if let Some(source) = self.source {
            let is_silent = now_ms.saturating_sub(self.heard_ms) > limits.silence_ms;
            if is_silent || !sources.contains(&source) {
                self.leave_source(sources.len(), now_ms, limits);
            }
        }
        if self.source.is_none() && now_ms >= self.paused_until_ms && !sources.is_empty() {
            self.source = Some(sources[self.turn % sources.len()]);
            self.turn += 1;
            self.heard_ms = now_ms;
            self.requested = self.buffer.len() as u64;
        }
        self.ask_on(limits)
    }

    /// The source does not have the module.
    pub fn on_absent(&mut self, from: NodeId, sources: usize, now_ms: u64, limits: &Limits) {
        if self.source == Some(from) {
            self.leave_source(sources, now_ms, limits);
        }
    }

    /// A piece came. Gives the whole module with the last one, else whom to ask for which offsets.
    pub fn on_piece(
        &mut self,
        from: NodeId,
        offset: u64,
        bytes: &[u8],
        now_ms: u64,
        limits: &Limits,
    ) -> Result<Vec<u8>, Vec<(NodeId, u64)>> {
        let have = self.buffer.len() as u64;
        let fits = !bytes.is_empty() && bytes.len() as u64 <= self.size - have;
        if self.source != Some(from) || offset != have || !fits {
            return Err(Vec::new());
        }
        self.buffer.extend_from_slice(bytes);
        self.heard_ms = now_ms;
        (self.in_vain, self.pauses) = (0, 0);
        let is_whole = self.buffer.len() as u64 == self.size;
        if is_whole || CatalogMutant::ShortFetch.is_planted() {
            return Ok(std::mem::take(&mut self.buffer));
        }
        Err(self.ask_on(limits))
    }

    fn ask_on(&mut self, limits: &Limits) -> Vec<(NodeId, u64)> {
        let Some(source) = self.source else {
            return Vec::new();
        };
        let piece = limits.piece_bytes as u64;
        let window = self.buffer.len() as u64 + limits.pieces * piece;
        let mut asked = Vec::new();
        while self.requested < window.min(self.size) {
            asked.push((source, self.requested));
            self.requested += piece;
        }
        asked
    }

    fn leave_source(&mut self, sources: usize, now_ms: u64, limits: &Limits) {
        self.source = None;
        self.in_vain += 1;
        if self.in_vain >= sources {
            self.in_vain = 0;
            let pause_ms = limits.pause_min_ms << self.pauses.min(16);
            self.pauses += 1;
            self.paused_until_ms = now_ms + pause_ms.min(limits.pause_max_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        silence_ms: 100,
        pause_min_ms: 10,
        pause_max_ms: 40,
        piece_bytes: 4,
        pieces: 2,
        repeat_ms: 0,
        patience_ms: 0,
        sweep_ms: 0,
        sweep_pause_ms: 0,
        fetches: 1,
        requests: 0,
        request_bytes: 0,
        staged_bytes: 0,
    };
    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    #[test]
    fn pieces_are_asked_for_ahead_and_taken_in_order() {
        let mut fetch = Fetch::new(10, 0);
        assert_eq!(fetch.tick(&[ONE], 0, &LIMITS), [(ONE, 0), (ONE, 4)]);
        assert_eq!(fetch.tick(&[ONE], 1, &LIMITS), []);
        // One came too early, one from somebody else, and one is too long.
        assert_eq!(fetch.on_piece(ONE, 4, b"efgh", 1, &LIMITS), Err(vec![]));
        assert_eq!(fetch.on_piece(TWO, 0, b"abcd", 1, &LIMITS), Err(vec![]));
        assert_eq!(
            fetch.on_piece(ONE, 0, b"abcdefghijk", 1, &LIMITS),
            Err(vec![])
        );
        let next = fetch.on_piece(ONE, 0, b"abcd", 1, &LIMITS);
        assert_eq!(next, Err(vec![(ONE, 8)]));
        assert_eq!(fetch.on_piece(ONE, 4, b"efgh", 1, &LIMITS), Err(vec![]));
        let whole = fetch.on_piece(ONE, 8, b"ij", 1, &LIMITS);
        assert_eq!(whole, Ok(b"abcdefghij".to_vec()));
    }

    #[test]
    fn another_server_goes_on_where_a_silent_one_has_stopped() {
        let mut fetch = Fetch::new(10, 0);
        let sources = [ONE, TWO];
        assert_eq!(fetch.tick(&sources, 0, &LIMITS), [(ONE, 0), (ONE, 4)]);
        assert!(fetch.on_piece(ONE, 0, b"abcd", 0, &LIMITS).is_err());
        assert_eq!(fetch.tick(&sources, 100, &LIMITS), []);
        assert_eq!(fetch.tick(&sources, 101, &LIMITS), [(TWO, 4), (TWO, 8)]);
        // Nobody waits for a server that is gone. Each of the others was asked once by now.
        assert_eq!(fetch.tick(&[ONE], 102, &LIMITS), []);
        assert_eq!(fetch.tick(&[ONE], 112, &LIMITS), [(ONE, 4), (ONE, 8)]);
    }

    #[test]
    fn servers_without_the_module_are_asked_less_and_less() {
        let mut fetch = Fetch::new(10, 0);
        let mut asked = Vec::new();
        for now_ms in 0..200 {
            if !fetch.tick(&[ONE], now_ms, &LIMITS).is_empty() {
                asked.push(now_ms);
                fetch.on_absent(ONE, 1, now_ms, &LIMITS);
            }
        }
        assert_eq!(asked, [0, 10, 30, 70, 110, 150, 190]);
        fetch.hurry();
        assert!(!fetch.is_paused(200));
    }
}

//! What a server does for the clients that push and remove modules at it: one operation after the other, each in the
//! phases of [`Phase`].

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use crucial_object::Error;
use crucial_proto::frame::Pushed;

use super::action::{Outbox, Reply, RequestId};
use super::limits::Limits;
use super::message::{ModuleMessage, OperationId, Peer, Ready, Step};
use super::mutant::CatalogMutant;
use super::operation::{Operation, Phase, Round, Wish, add};
use super::shelf::Need;
use crate::ids::ModuleId;
use crate::replication::{Command, View, ViewVersion};

/// A request that waits for its turn.
#[derive(Debug)]
struct Queued {
    request: RequestId,
    wish: Wish,
    queued_ms: u64,
}

/// The operations of a server's own clients.
#[derive(Debug)]
pub(super) struct Coordinator {
    limits: Limits,
    queue: VecDeque<Queued>,
    active: Option<Operation>,
    /// Operations that were begun, of any incarnation.
    begun: u64,
    /// Bytes that a client has brought, for the shelf.
    brought: Option<(ModuleId, Bytes)>,
}

/// The view, the time and the outbox of an operation.
pub(super) struct Context<'a> {
    pub view: &'a View,
    pub now_ms: u64,
    pub out: &'a mut Outbox,
}

impl Coordinator {
    pub fn new(limits: Limits) -> Coordinator {
        Coordinator {
            limits,
            queue: VecDeque::new(),
            active: None,
            begun: 0,
            brought: None,
        }
    }

    /// A client asks for something.
    pub fn submit(&mut self, request: RequestId, wish: Wish, now_ms: u64, out: &mut Outbox) {
        out.open(request);
        let bytes: u64 = self.queue.iter().map(|queued| queued.wish.size()).sum();
        let is_full = self.queue.len() >= self.limits.requests
            || (!self.queue.is_empty() && bytes + wish.size() > self.limits.request_bytes);
        if is_full {
            let reason =
                "too many requests to push and remove modules wait at this server: repeat it";
            return fail(request, &wish, unavailable(reason), out);
        }
        self.queue.push_back(Queued {
            request,
            wish,
            queued_ms: now_ms,
        });
    }

    /// This server's incarnation has ended: the control group takes no command of its any more.
    pub fn end(&mut self, out: &mut Outbox) {
        let reason =
            "the server was taken for dead while it pushed or removed the module: repeat it";
        let active = self.active.take();
        let active = active.and_then(|operation| Some((operation.request?, operation.wish)));
        let queued = self.queue.drain(..).map(|one| (one.request, one.wish));
        for (request, wish) in active.into_iter().chain(queued) {
            fail(request, &wish, unavailable(reason), out);
        }
        self.brought = None;
    }

    /// The module of the present operation.
    pub fn need(&self) -> Option<Need> {
        let operation = self.active.as_ref()?;
        let is_push = matches!(operation.step, Step::Push { .. });
        let is_over = matches!(operation.phase, Phase::Releasing { .. });
        (is_push && !is_over).then_some(Need {
            module: operation.module,
            size: operation.size,
            is_kept: false,
            source: None,
        })
    }

    /// The bytes that a client has brought for the present operation.
    pub fn take_brought(&mut self) -> Option<(ModuleId, Bytes)> {
        self.brought.take()
    }

    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.queue.is_empty()
    }

    /// Begins the next operation, if none is under way.
    pub fn begin_next(&mut self, context: &mut Context<'_>) {
        while self.active.is_none() {
            let Some(queued) = self.queue.pop_front() else {
                return;
            };
            self.begin(queued, context);
        }
    }

    fn begin(&mut self, queued: Queued, context: &mut Context<'_>) {
        let Queued { request, wish, .. } = queued;
        let (module, step) = match &wish {
            Wish::Push {
                module, replace, ..
            } => (*module, Step::Push { replace: *replace }),
            Wish::Remove { module } => {
                let Some(since) = context.view.module_since(module) else {
                    return context.out.reply(request, Reply::Removed(Ok(false)));
                };
                (*module, Step::Remove { since })
            }
        };
        if let Wish::Push { bytes, .. } = &wish {
            let refused = match bytes.is_empty() {
                true => Some("the module has no bytes".to_owned()),
                false => {
                    let room = context.view.check_room(&module, bytes.len() as u64);
                    room.err().map(|refusal| refusal.to_string())
                }
            };
            if let Some(reason) = refused {
                return fail(request, &wish, Error::Refused { reason }, context.out);
            }
            self.brought = Some((module, bytes.clone()));
        }
        let size = wish.size();
        let mut operation = Operation {
            id: self.next_id(context.out.me()),
            request: Some(request),
            wish,
            module,
            size,
            step,
            seen: ViewVersion::default(),
            phase: Phase::Pausing { until_ms: 0 },
            asked: Default::default(),
            info: None,
            was_current: false,
            pushed: None,
            sweeps: Vec::new(),
            sweep_until_ms: 0,
            refused: None,
            progress_ms: context.now_ms,
        };
        operation.attempt(context);
        self.active = Some(operation);
    }

    fn next_id(&mut self, me: Peer) -> OperationId {
        self.begun += 1;
        OperationId {
            coordinator: me,
            number: self.begun,
        }
    }

    /// A view came.
    pub fn on_view(&mut self, context: &mut Context<'_>) {
        let Some(operation) = &mut self.active else {
            return;
        };
        operation.on_view(context);
        self.advance(context);
    }

    pub fn on_prepared(
        &mut self,
        (from, operation): (Peer, OperationId),
        seen: ViewVersion,
        answer: Result<Ready, String>,
        context: &mut Context<'_>,
    ) {
        let Some(active) = self.active.as_mut().filter(|active| active.id == operation) else {
            return;
        };
        if active.seen != seen && !CatalogMutant::StaleAnswers.is_planted() {
            return;
        }
        if let Phase::Preparing { round, answers } = &mut active.phase
            && round.answered(from)
        {
            answers.insert(from, answer);
            active.progress_ms = context.now_ms;
        }
        self.advance(context);
    }

    pub fn on_installed(
        &mut self,
        (from, operation): (Peer, OperationId),
        outcome: Option<Pushed>,
        context: &mut Context<'_>,
    ) {
        let Some(active) = self.active.as_mut().filter(|active| active.id == operation) else {
            return;
        };
        if let Phase::Confirming { round, .. } = &mut active.phase
            && round.answered(from)
        {
            active.progress_ms = context.now_ms;
            if let Some(one) = outcome {
                add(&mut active.pushed, one);
            }
        }
        self.advance(context);
    }

    pub fn on_released(
        &mut self,
        (from, operation): (Peer, OperationId),
        context: &mut Context<'_>,
    ) {
        let Some(active) = self.active.as_mut().filter(|active| active.id == operation) else {
            return;
        };
        if let Phase::Releasing { round, .. } = &mut active.phase {
            round.answered(from);
        }
        self.advance(context);
    }

    /// Time passes, whether this server is a member or not.
    pub fn give_up_waiting(&mut self, now_ms: u64, out: &mut Outbox) {
        let patience_ms = self.limits.patience_ms;
        let is_late = |one: &mut Queued| now_ms.saturating_sub(one.queued_ms) > patience_ms;
        while let Some(queued) = self.queue.pop_front_if(is_late) {
            let error =
                unavailable("other requests to push or remove modules took too long: repeat it");
            fail(queued.request, &queued.wish, error, out);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, context: &mut Context<'_>) {
        let Some(operation) = &mut self.active else {
            return;
        };
        if operation.is_sweep() && context.now_ms > operation.sweep_until_ms {
            operation.end_sweep(context);
        } else if context.now_ms.saturating_sub(operation.progress_ms) > self.limits.patience_ms {
            operation.give_up(context);
        }
        operation.repeat(context, self.limits.repeat_ms);
        self.advance(context);
    }

    /// Goes on to the next phase, if the present one has ended.
    fn advance(&mut self, context: &mut Context<'_>) {
        let Some(operation) = &mut self.active else {
            return;
        };
        match &mut operation.phase {
            Phase::Preparing { round, answers } => {
                let is_early = CatalogMutant::DropAfterFirst.is_planted()
                    && matches!(operation.step, Step::Remove { .. })
                    && answers.values().any(Result::is_ok);
                if round.is_over() || is_early {
                    let answers = std::mem::take(answers);
                    self.on_all_prepared(answers, context);
                }
            }
            Phase::Confirming { round, since } => {
                let is_early = CatalogMutant::AnswerBeforeInstalled.is_planted();
                if round.is_over() || is_early {
                    let since = *since;
                    self.on_all_installed(since, context);
                }
            }
            Phase::Pausing { until_ms } if context.now_ms >= *until_ms => self.sweep(context),
            Phase::Releasing { round, .. } if round.is_over() => {
                operation.refuse(context);
                self.active = None;
                self.brought = None;
                self.begin_next(context);
            }
            Phase::Proposed { .. } | Phase::Pausing { .. } | Phase::Releasing { .. } => {}
        }
    }

    fn on_all_prepared(
        &mut self,
        answers: BTreeMap<Peer, Result<Ready, String>>,
        context: &mut Context<'_>,
    ) {
        let Some(operation) = &mut self.active else {
            return;
        };
        let mut is_current = true;
        let mut refused = None;
        for answer in answers.into_values() {
            match answer {
                Ok(ready) => {
                    is_current &= ready.is_current;
                    operation.info = operation.info.take().or(ready.module);
                }
                Err(reason) => refused = refused.or(Some(reason)),
            }
        }
        if let Some(reason) = refused {
            if operation.is_sweep() {
                // The others have their turn meanwhile.
                operation.sweeps.rotate_left(1);
                let until_ms = context.now_ms + self.limits.sweep_pause_ms;
                operation.phase = Phase::Pausing { until_ms };
                return;
            }
            operation.refused = Some(reason);
            operation.release(context);
        } else if operation.is_check() {
            operation.reply_pushed(context.out);
            operation.release(context);
        } else if is_current && matches!(operation.step, Step::Push { .. }) {
            operation.was_current = true;
            match context.view.module_since(&operation.module) {
                Some(since) => operation.confirm(since, context),
                // All its types are the servers' own.
                None => {
                    operation.reply_pushed(context.out);
                    operation.release(context);
                }
            }
        } else {
            operation.propose(context);
        }
        self.advance(context);
    }

    fn on_all_installed(&mut self, installed: ViewVersion, context: &mut Context<'_>) {
        let Some(operation) = &mut self.active else {
            return;
        };
        if operation.was_current
            && let Some(pushed) = &mut operation.pushed
        {
            // These objects have moved long ago.
            (pushed.moved, pushed.left, pushed.reason) = (0, 0, None);
            pushed.replaced.clear();
        }
        let pushed = operation.pushed.as_ref().filter(|pushed| pushed.left == 0);
        let replaced = pushed.map_or(&[][..], |pushed| &pushed.replaced);
        let kept = replaced.iter().filter_map(|module| {
            let since = context.view.module_since(module)?;
            (since < installed).then_some((*module, since))
        });
        operation.sweeps = kept.collect();
        operation.sweep_until_ms = context.now_ms + self.limits.sweep_ms;
        self.sweep(context);
    }

    /// Removes the next of the modules that were replaced. The client is answered when they are gone, or when the
    /// time for it is over.
    fn sweep(&mut self, context: &mut Context<'_>) {
        let id = self.next_id(context.out.me());
        let Some(operation) = &mut self.active else {
            return;
        };
        let is_due = context.now_ms <= operation.sweep_until_ms;
        let view = context.view;
        operation
            .sweeps
            .retain(|(module, replaced)| view.module_since(module) == Some(*replaced));
        match operation.sweeps.last() {
            Some((module, since)) if is_due && operation.request.is_some() => {
                // Members forget an operation when they hear of the next one.
                operation.id = id;
                (operation.module, operation.size) = (*module, 0);
                operation.step = Step::Remove { since: *since };
                operation.attempt(context);
            }
            _ => {
                operation.reply_pushed(context.out);
                operation.release(context);
            }
        }
        self.advance(context);
    }

    /// Asserts what always holds.
    pub fn check(&self, out: &Outbox) {
        assert!(self.queue.len() <= self.limits.requests);
        let active = self.active.as_ref().and_then(|operation| operation.request);
        let queued = self.queue.iter().map(|queued| queued.request);
        let mut open = 0;
        for request in queued.chain(active) {
            assert!(out.is_open(request), "{request:?} has no answer yet");
            open += 1;
        }
        assert_eq!(open, out.open_requests(), "no request is forgotten");
    }
}

impl Operation {
    /// Asks all members of the present view to prepare the step.
    fn attempt(&mut self, context: &mut Context<'_>) {
        self.seen = context.view.version;
        let members = context.view.members.iter();
        let peers: Vec<_> = members
            .map(|(node, member)| Peer {
                node: *node,
                incarnation: member.incarnation,
            })
            .collect();
        self.asked.extend(peers.iter().copied());
        let round = Round::new(peers, context.now_ms);
        round.send(&self.prepare(), context.out);
        self.phase = Phase::Preparing {
            round,
            answers: BTreeMap::new(),
        };
    }

    fn propose(&mut self, context: &mut Context<'_>) {
        self.phase = Phase::Proposed {
            sent_ms: context.now_ms,
        };
        self.progress_ms = context.now_ms;
        context.out.propose(self.command());
    }

    fn command(&self) -> Command {
        let Peer { node, incarnation } = self.id.coordinator;
        match self.step {
            Step::Push { replace } => Command::Keep {
                id: self.module,
                size: self.size,
                replace,
                seen: self.seen,
                node,
                incarnation,
            },
            Step::Remove { since } => Command::Drop {
                id: self.module,
                since,
                seen: self.seen,
                node,
                incarnation,
            },
        }
    }

    fn confirm(&mut self, since: ViewVersion, context: &mut Context<'_>) {
        // Servers that have joined since then learn of the module from their views.
        let asked = self.asked.iter().copied();
        let members = asked.filter(|peer| context.view.has(peer.node, peer.incarnation));
        let round = Round::new(members, context.now_ms);
        let operation = self.id;
        round.send(&ModuleMessage::Confirm { operation, since }, context.out);
        self.phase = Phase::Confirming { round, since };
        self.progress_ms = context.now_ms;
    }

    fn release(&mut self, context: &mut Context<'_>) {
        let asked = self.asked.iter().copied();
        let members = asked.filter(|peer| context.view.has(peer.node, peer.incarnation));
        let round = Round::new(members, context.now_ms);
        let operation = self.id;
        let seen = context.view.version;
        round.send(&ModuleMessage::Release { operation, seen }, context.out);
        self.phase = Phase::Releasing { round, seen };
        self.progress_ms = context.now_ms;
    }

    fn on_view(&mut self, context: &mut Context<'_>) {
        let view = context.view;
        match &mut self.phase {
            Phase::Preparing { round, .. } => round.on_view(view),
            Phase::Confirming { round, .. } => return round.on_view(view),
            Phase::Releasing { round, .. } => return round.on_view(view),
            Phase::Proposed { .. } => {}
            Phase::Pausing { .. } => return,
        }
        let is_proposed = matches!(self.phase, Phase::Proposed { .. });
        let present = view.module_since(&self.module);
        let rests_on = match self.step {
            Step::Push { .. } => view.keep_rests_on(),
            Step::Remove { .. } => view.drop_rests_on(),
        };
        match self.step {
            Step::Push { .. } if is_proposed && present.is_some_and(|since| since > self.seen) => {
                if let Some(since) = present {
                    self.confirm(since, context);
                }
            }
            Step::Remove { .. } if present.is_none() => self.on_gone(context),
            _ if rests_on > self.seen => {
                self.on_overtaken(present, context);
            }
            _ => {}
        }
    }

    /// The module that was to be removed is gone.
    fn on_gone(&mut self, context: &mut Context<'_>) {
        if self.is_sweep() {
            self.phase = Phase::Pausing { until_ms: 0 };
            return;
        }
        if let Some(request) = self.request.take() {
            context.out.reply(request, Reply::Removed(Ok(true)));
        }
        self.release(context);
    }

    /// A server has joined, objects have moved, or the modules have changed: what was prepared does not count, and what was proposed has no
    /// effect.
    fn on_overtaken(&mut self, present: Option<ViewVersion>, context: &mut Context<'_>) {
        if self.request.is_none() {
            return self.release(context);
        }
        if self.is_sweep() {
            if let Step::Remove { since } = self.step
                && present != Some(since)
            {
                // Somebody has pushed it again.
                self.phase = Phase::Pausing { until_ms: 0 };
                return;
            }
        } else if let Step::Remove { since } = &mut self.step
            && let Some(present) = present
        {
            *since = present;
        }
        if let Step::Push { .. } = self.step
            && let Err(refusal) = context.view.check_room(&self.module, self.size)
        {
            self.refused = Some(refusal.to_string());
            return self.release(context);
        }
        self.attempt(context);
    }

    /// The phase has made no progress for a long time.
    fn give_up(&mut self, context: &mut Context<'_>) {
        self.progress_ms = context.now_ms;
        let what = match self.phase {
            Phase::Preparing { .. } => "to prepare it; it was given up",
            Phase::Proposed { .. } => "to decide; it may still be done",
            Phase::Confirming { .. } => "to use it; it is decided, and will be done",
            Phase::Pausing { .. } => return,
            // A member that does not answer cannot change the verdict.
            Phase::Releasing { .. } => return self.refuse(context),
        };
        let reason = format!("waited too long for {} {what}: repeat it", self.waits_for());
        if let Some(request) = self.request.take() {
            fail(request, &self.wish, unavailable(&reason), context.out);
        }
        if let Phase::Preparing { .. } | Phase::Confirming { .. } = self.phase {
            self.release(context);
        }
    }

    /// The time for the removal of replaced modules is over: they stay until the next push, and take room.
    fn end_sweep(&mut self, context: &mut Context<'_>) {
        self.reply_pushed(context.out);
        if let Phase::Preparing { .. } = self.phase {
            self.release(context);
        }
    }

    fn repeat(&mut self, context: &mut Context<'_>, repeat_ms: u64) {
        let operation = self.id;
        let (prepare, command) = (self.prepare(), self.command());
        let times = (context.now_ms, repeat_ms);
        match &mut self.phase {
            Phase::Preparing { round, .. } => round.repeat(&prepare, times, context.out),
            Phase::Confirming { round, since } => {
                let since = *since;
                let message = ModuleMessage::Confirm { operation, since };
                round.repeat(&message, times, context.out);
            }
            Phase::Releasing { round, seen } => {
                let seen = *seen;
                let message = ModuleMessage::Release { operation, seen };
                round.repeat(&message, times, context.out);
            }
            Phase::Proposed { sent_ms } => {
                if context.now_ms.saturating_sub(*sent_ms) >= repeat_ms {
                    *sent_ms = context.now_ms;
                    context.out.propose(command);
                }
            }
            Phase::Pausing { .. } => {}
        }
    }

    fn reply_pushed(&mut self, out: &mut Outbox) {
        let Some(request) = self.request.take() else {
            return;
        };
        // If the module was dropped again before anybody has installed it, nothing has moved.
        let pushed = self.pushed.clone();
        let pushed = pushed.or_else(|| self.info.clone().map(Pushed::of));
        let nobody = || unavailable("no member has the module: repeat it");
        out.reply(request, Reply::Pushed(pushed.ok_or_else(nobody)));
    }

    /// Tells the client why the step was refused, now that all is as it was.
    fn refuse(&mut self, context: &mut Context<'_>) {
        if let Some(request) = self.request.take() {
            let reason = self.refused.take().unwrap_or_default();
            fail(request, &self.wish, Error::Refused { reason }, context.out);
        }
    }
}

fn fail(request: RequestId, wish: &Wish, error: Error, out: &mut Outbox) {
    let reply = match wish {
        Wish::Push { .. } => Reply::Pushed(Err(error)),
        Wish::Remove { .. } => Reply::Removed(Err(error)),
    };
    out.reply(request, reply);
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        address: "the cluster's modules".to_owned(),
        reason: reason.to_owned(),
    }
}

//! Executes jobs: the only place where user code runs.

use crucial_object::{Error, Result, encode};
use crucial_proto::frame::Attempt;

use crate::cell::{Call, Cell, Turn as CellTurn};
use crate::job::{Created, Done, Executed, Job, Outcome, Plan, Todo, Turn};
use crate::node::Node;
use crate::objects::{Event, ObjectRequest, RequestContext};
use crate::replication::{Checksum, Entry, Image, ImageBody, Replica};
use crate::results::Results;

impl Node {
    /// Executes a job. That takes as long as the user's code takes, holds no lock, and knows no time.
    pub fn execute(&self, job: Job) -> Done {
        match job.0 {
            Todo::Message(connection, bytes) => {
                let message = crucial_object::decode::<crate::peer_message::PeerMessage>(&bytes);
                Done(Executed::Message(connection, message))
            }
            Todo::Object(mut turn) => {
                let outcome = self.execute_plan(&mut turn);
                let image = self.image_if_differs(&mut turn);
                Done(Executed::Object(turn, outcome, image.map(Box::new)))
            }
        }
    }

    fn execute_plan(&self, turn: &mut Turn) -> Outcome {
        let parked_max = self.limits.parked_calls_max;
        let (event, results) = (&turn.event, &mut turn.results);
        let state = &mut turn.state.0;
        match turn.plan.as_ref().expect("a job has a plan") {
            Plan::Create(_, info) => {
                Outcome::Created(self.create(info, event, turn.has_followers).map(Box::new))
            }
            Plan::Restore(origin, info) => match event {
                Event::Apply(_, entry) => {
                    Outcome::Restored(restore(entry, origin, *info).map(Box::new))
                }
                _ => unreachable!("only an entry has an image"),
            },
            plan => {
                let replica = state.as_mut().expect("an object was admitted that is here");
                match plan {
                    Plan::Call(_, attempt) => {
                        let (context, call) = call_of(event);
                        let call = self.cell_call(context, call, attempt.as_deref());
                        let called = in_turn(results, parked_max, |turn| replica.call(&call, turn));
                        Outcome::Called(called)
                    }
                    Plan::Look(_) => {
                        let (context, call) = call_of(event);
                        let call = self.cell_call(context, call, None);
                        let called = in_turn(results, parked_max, |turn| {
                            replica.cell().map(|cell| cell.call(&call, turn))
                        });
                        Outcome::Called(called)
                    }
                    Plan::Change(_, change) => {
                        in_turn(results, parked_max, |turn| replica.apply(change, turn));
                        Outcome::Changed
                    }
                    Plan::Follow(rank) => {
                        Outcome::Followed(follow(replica, event, (*rank, parked_max)))
                    }
                    Plan::Encode(rank) => Outcome::Encoded(Box::new(self.image(replica, *rank))),
                    Plan::Checksum => Outcome::Checksum(checksum(replica)),
                    Plan::CheckMove(new) => {
                        Outcome::Moved(with_cell(replica, |cell| cell.can_move_to(new)))
                    }
                    Plan::Move(new, _) => Outcome::Moved(in_turn(results, parked_max, |turn| {
                        with_cell(replica, |cell| cell.move_to(new, turn))
                    })),
                    Plan::Save => {
                        let mut state = Vec::new();
                        let saved = with_cell(replica, |cell| cell.save(&mut state));
                        Outcome::Saved(saved.map(|()| state))
                    }
                    Plan::Create(..) | Plan::Restore(..) => unreachable!("handled above"),
                }
            }
        }
    }

    pub(crate) fn cell_call<'a>(
        &self,
        context: &RequestContext,
        request: &'a crucial_proto::frame::CallRequest,
        attempt: Option<&Attempt>,
    ) -> Call<'a> {
        Call {
            id: context.call(),
            acked: context.acked,
            recording: self.recording(&context.session),
            method: request.method,
            args: &request.args,
            attempt: attempt.copied(),
        }
    }

    fn create(
        &self,
        info: &'static crucial_object::TypeInfo,
        event: &Event,
        has_followers: bool,
    ) -> Result<Created> {
        let Event::Request(context, ObjectRequest::Open(request)) = event else {
            unreachable!("only a request creates an object")
        };
        let cell = Cell::new(info, &request.state)?;
        let mut replica = self.new_replica(cell, context, request);
        // An object that cannot be encoded could not be kept at other servers, so it is not created.
        let image = match has_followers {
            true => match self.sendable_image(&mut replica, 0) {
                Ok(image) => Some(image),
                Err(error) => {
                    self.homes.prune(&replica.origin.home);
                    return Err(error);
                }
            },
            false => None,
        };
        Ok(Created { replica, image })
    }

    /// The image for other servers, if they might come to another state, or lack the code.
    fn image_if_differs(&self, turn: &mut Turn) -> Option<Image> {
        let has_moved = matches!(turn.plan, Some(Plan::Move(..)));
        if !turn.has_followers || !(has_moved || turn.results.may_differ()) {
            return None;
        }
        let replica = turn.state.0.as_mut()?;
        Some(self.image(replica, 0))
    }

    /// The object for a node of a rank. One that cannot be sent goes as lost: the user's code fails to encode it, or it is too
    /// large.
    fn image(&self, replica: &mut Replica, rank: u8) -> Image {
        self.sendable_image(replica, rank).unwrap_or_else(|error| {
            let type_name = &replica.origin.type_name;
            let key = replica.key();
            tracing::error!(type_name, key, %error, "an object cannot be sent to other servers, for which it is lost");
            replica.lost_image()
        })
    }

    /// The object for a node of a rank, if it can be sent.
    fn sendable_image(&self, replica: &mut Replica, rank: u8) -> Result<Image> {
        /// More than what a message has besides the state and the records of an object.
        const HEADER_BYTES: usize = 4096;
        let image = replica.image(rank)?;
        let size = match &image.body {
            ImageBody::Full(cell) => cell.size() + HEADER_BYTES,
            ImageBody::Stub | ImageBody::Lost => 0,
        };
        let max = self.limits.peer_frame_bytes_max;
        if size <= max {
            return Ok(image);
        }
        Err(Error::LimitExceeded {
            limit: "peer_frame_bytes_max".to_owned(),
            max: max as u64,
            detail: format!(
                "an object of {size} bytes cannot be sent to another server: make it of several objects, or start all servers with a larger limit"
            ),
        })
    }
}

fn in_turn<T>(
    results: &mut Results,
    parked_max: usize,
    act: impl FnOnce(&mut CellTurn<'_>) -> T,
) -> T {
    let mut scratch = std::mem::take(&mut results.scratch);
    let mut turn = CellTurn::new(results, &mut scratch);
    turn.parked_max = parked_max;
    let value = act(&mut turn);
    results.scratch = scratch;
    value
}

fn call_of(event: &Event) -> (&RequestContext, &crucial_proto::frame::CallRequest) {
    match event {
        Event::Request(context, ObjectRequest::Call(call)) => (context, call),
        _ => unreachable!("only a request calls a method"),
    }
}

fn with_cell(replica: &mut Replica, act: impl FnOnce(&mut Cell) -> Result<()>) -> Result<()> {
    replica.cell().map_or(Ok(()), act)
}

fn follow(replica: &mut Replica, event: &Event, at: (u8, usize)) -> bool {
    let Event::Apply(_, entry) = event else {
        return true;
    };
    match &**entry {
        Entry::Apply {
            previous,
            version,
            change,
            checksum,
            ..
        } => replica.follow((*previous, *version), change, *checksum, at),
        _ => true,
    }
}

fn restore(
    entry: &Entry,
    origin: &std::sync::Arc<crate::replication::Origin>,
    info: Option<&'static crucial_object::TypeInfo>,
) -> Result<Replica> {
    let Entry::Install { image, .. } = entry else {
        unreachable!("only an installed object has an image")
    };
    let restored = Replica::from_image(image, origin.clone(), info);
    restored.or_else(|error| {
        tracing::error!(object = image.key, %error, "a replica cannot be kept here");
        let lost = Image {
            body: ImageBody::Lost,
            ..(**image).clone()
        };
        Replica::from_image(&lost, origin.clone(), None)
    })
}

fn checksum(replica: &mut Replica) -> Option<u64> {
    if !replica.is_full() {
        return None;
    }
    let image = replica.image(0).and_then(|image| encode(&image));
    Some(Checksum::of(&image.unwrap_or_default()))
}

//! A cell as bytes: what another server needs to have the same one.

use crucial_object::{EncodingVersion, Error, Panic, Result, TypeInfo, caller, catch};
use crucial_proto::frame::Attempt;
use serde::{Deserialize, Serialize};

use super::guarded::Guarded;
use super::records::{CallId, Outcome, Record, Records};
use super::state::{Cell, Parked, panicked};

/// All of a [`Cell`]: its state, its records, its parked calls with their tickets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellImage {
    /// The type's name.
    pub type_name: String,
    /// [`TypeInfo::module`]: of the code that has encoded the state, and that alone can read it.
    pub module: Option<[u8; 32]>,
    #[serde(with = "serde_bytes")]
    state: Vec<u8>,
    /// The method that panicked, its message, and where.
    poison: Option<(String, String, String)>,
    /// The results of calls; `None` of those that are parked.
    records: Vec<(CallId, Option<Result<serde_bytes::ByteBuf>>)>,
    parked: Vec<ParkedImage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ParkedImage {
    call: CallId,
    method: u32,
    #[serde(with = "serde_bytes")]
    args: Vec<u8>,
    ticket: Option<serde_bytes::ByteBuf>,
    attempt: Option<Attempt>,
}

impl CellImage {
    /// About how many bytes it takes, without encoding it.
    pub fn size(&self) -> usize {
        const CALL_BYTES: usize = 24;
        let results = self.records.iter().map(|(_, result)| match result {
            Some(Ok(bytes)) => CALL_BYTES + bytes.len(),
            _ => CALL_BYTES,
        });
        let parked = self
            .parked
            .iter()
            .map(|parked| CALL_BYTES + parked.args.len());
        self.state.len() + results.sum::<usize>() + parked.sum::<usize>()
    }
}

impl Cell {
    /// The cell as it is now. Two cells with the same image answer all future calls alike.
    pub fn image(&mut self) -> Result<CellImage> {
        let mut state = Vec::new();
        self.save(&mut state)?;
        let records = self.records.iter().map(|(call, record)| {
            let result = match record {
                Record::Parked => None,
                Record::Done(outcome) => {
                    let owned = |bytes: &[u8]| serde_bytes::ByteBuf::from(bytes);
                    Some(outcome.result().map(owned).map_err(Clone::clone))
                }
            };
            (call, result)
        });
        let records = records.collect();
        let rare = self.rare.as_ref();
        let poison = rare.and_then(|rare| rare.poison.clone());
        let parked = rare.into_iter().flat_map(|rare| &rare.parked);
        let parked = parked.map(|parked| ParkedImage {
            call: parked.call,
            method: self.info.methods[parked.method].id.0,
            args: parked.args.to_vec(),
            ticket: parked.ticket.clone().map(Into::into),
            attempt: parked.attempt,
        });
        Ok(CellImage {
            type_name: self.info.name.to_owned(),
            module: self.info.module,
            state,
            poison: poison.map(|(what, panic)| (what, panic.message, panic.location)),
            records,
            parked: parked.collect(),
        })
    }

    /// The cell that `image` was made of; `info` is the type of its name and module.
    ///
    /// # Errors
    ///
    /// [`Error::BadArguments`] if the type has another form here.
    pub fn from_image(info: &'static TypeInfo, image: &CellImage) -> Result<Cell> {
        let restored =
            caller::in_method(|| catch(|| info.restore(&image.state, EncodingVersion::Same)));
        let instance =
            restored.unwrap_or_else(|panic| Err(panicked(info.name.to_owned(), panic)))?;
        let mut records = Records::default();
        for (call, result) in &image.records {
            let record = match result {
                None => Record::Parked,
                Some(result) => {
                    let result = result.as_ref().map(|bytes| bytes.as_ref());
                    Record::Done(Outcome::new(result))
                }
            };
            records.restore(*call, record);
        }
        let mut cell = Cell {
            info,
            instance: Guarded::new(instance),
            records,
            rare: None,
        };
        for parked in &image.parked {
            let id = crucial_object::MethodId(parked.method);
            let method = info.method_index(id).ok_or_else(|| Error::BadArguments {
                what: info.name.to_owned(),
                detail: "a call waits in a method that the type does not have here".to_owned(),
            })?;
            cell.rare_mut().parked.push_back(Parked {
                call: parked.call,
                method,
                args: parked.args.as_slice().into(),
                ticket: parked.ticket.clone().map(serde_bytes::ByteBuf::into_vec),
                attempt: parked.attempt,
            });
        }
        if let Some((what, message, location)) = image.poison.clone() {
            cell.rare_mut().poison = Some((what, Panic { message, location }));
        }
        Ok(cell)
    }
}

//! Canonical NaNs, where their bits can be seen.
//!
//! WebAssembly leaves the bits of a NaN that arithmetic makes to the processor, and processors differ. The compiler
//! can make each one canonical, which costs a comparison behind each operation. But between operations nobody sees
//! these bits: only what is stored, reinterpreted as an integer, given to a function, or returned is seen. So this pass
//! follows each value from the instruction that makes it ([`flow`]), and puts a comparison behind those instructions
//! only whose values arithmetic has made *and* something sees. What is merely moved keeps its bits.
//!
//! It is run on whatever somebody uploads: it validates what it reads, takes time and memory in proportion to it, and
//! leaves all else as it is. What it makes is validated again by the compiler.

mod effect;
mod flow;
#[cfg(test)]
mod tests;

use wasmparser::{
    BinaryReaderError as Error, FuncToValidate, FuncValidatorAllocations, FunctionBody, Parser,
    Payload, ValType, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use flow::{Flow, Mark, Shape};

/// Changes with what [`canonical`] makes, so that what was compiled from another is not used.
pub(crate) const VERSION: u32 = 1;

/// What a module may use of WebAssembly: no threads, nothing that differs from machine to machine, nothing that needs
/// a garbage collector.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM3
    .difference(WasmFeatures::RELAXED_SIMD)
    .difference(WasmFeatures::THREADS)
    .difference(WasmFeatures::EXCEPTIONS)
    .difference(WasmFeatures::GC_TYPES);

/// The module with canonical NaNs. Of its custom sections it keeps the names.
///
/// # Errors
///
/// If it is no module, or uses more than [`FEATURES`].
pub(crate) fn canonical(module: &[u8]) -> Result<Vec<u8>, Error> {
    let mut finder = Finder::default();
    rewrite(module, CANONICAL, |function, body| {
        finder.marks(function, body)
    })
}

/// The bits of a NaN, of both widths.
#[derive(Clone, Copy)]
struct Nan(u32, u64);

const CANONICAL: Nan = Nan(0x7fc0_0000, 0x7ff8_0000_0000_0000);

/// The module with this NaN in place of others, where `find` says. It gives the function's number of locals, too.
fn rewrite(
    module: &[u8],
    nan: Nan,
    mut find: impl FnMut(
        FuncToValidate<ValidatorResources>,
        &FunctionBody<'_>,
    ) -> Result<(u32, Vec<Mark>), Error>,
) -> Result<Vec<u8>, Error> {
    let mut validator = Validator::new_with_features(FEATURES);
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    // What is in the code section, while it is read.
    let mut code: Option<Vec<u8>> = None;
    let mut out = Vec::with_capacity(module.len());
    for payload in parser.parse_all(module) {
        let payload = payload?;
        let valid = validator.payload(&payload)?;
        if let ValidPayload::Func(function, body) = valid {
            let (locals, marks) = find(function, &body)?;
            let bytes = &module[body.range()];
            let bodies = code.get_or_insert_default();
            if marks.is_empty() {
                sized(bytes, bodies);
            } else {
                sized(&with_marks(&body, bytes, locals, &marks, nan)?, bodies);
            }
            continue;
        }
        if let Some(bodies) = code.take() {
            section(CODE, &bodies, &mut out);
        }
        match &payload {
            Payload::Version { range, .. } => out.extend_from_slice(&module[range.clone()]),
            Payload::CodeSectionStart { count, .. } => {
                unsigned(*count, code.get_or_insert_default());
            }
            // The others may have positions in the code, which change.
            Payload::CustomSection(custom) if custom.name() != "name" => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    section(id, &module[range], &mut out);
                }
            }
        }
    }
    Ok(out)
}

/// A function's body with a comparison at each mark.
fn with_marks(
    body: &FunctionBody<'_>,
    bytes: &[u8],
    locals: u32,
    marks: &[Mark],
    nan: Nan,
) -> Result<Vec<u8>, Error> {
    let begin = body.range().start;
    let groups = body.get_locals_reader()?;
    let (count, first_group) = (groups.get_count(), groups.original_position() - begin);
    let first_operator = body.get_operators_reader()?.original_position() - begin;
    let scratch = Scratch::new(locals, marks);
    let mut out = Vec::with_capacity(2 * bytes.len());
    unsigned(count + scratch.groups(), &mut out);
    out.extend_from_slice(&bytes[first_group..first_operator]);
    scratch.declare(&mut out);
    let mut copied = first_operator;
    for mark in marks {
        let behind = mark.behind - begin;
        out.extend_from_slice(&bytes[copied..behind]);
        scratch.compare(mark.shape, nan, &mut out);
        copied = behind;
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(out)
}

const CODE: u8 = 10;

fn section(id: u8, contents: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    sized(contents, out);
}

/// The bytes behind their length.
fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    // Like the module, they are much shorter than 4 GiB; else the compiler refuses what comes out.
    unsigned(bytes.len() as u32, out);
    out.extend_from_slice(bytes);
}

/// As LEB128.
fn unsigned(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Finds what is to be canonical, and keeps memory from one function to the next.
#[derive(Default)]
struct Finder {
    allocations: FuncValidatorAllocations,
    flow: Flow,
}

impl Finder {
    fn marks(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(u32, Vec<Mark>), Error> {
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        self.flow.clear(validator.len_locals());
        validator.read_locals(&mut body.get_binary_reader())?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let position = operators.original_position();
            let operator = operators.read()?;
            let behind = operators.original_position();
            self.flow
                .step(&mut validator, position, &operator, behind)?;
        }
        operators.finish()?;
        let locals = validator.len_locals();
        self.allocations = validator.into_allocations();
        Ok((locals, self.flow.marks()))
    }
}

/// The locals that comparisons need: at most one of each type.
struct Scratch {
    /// By type, in the order of [`SCRATCH`]: its index, if there is one.
    locals: [Option<u32>; 3],
}

const SCRATCH: [ValType; 3] = [ValType::F32, ValType::F64, ValType::V128];

/// Which of [`SCRATCH`] holds this.
fn scratch_of(shape: Shape) -> usize {
    match shape {
        Shape::F32 => 0,
        Shape::F64 => 1,
        Shape::F32x4 | Shape::F64x2 => 2,
    }
}

impl Scratch {
    /// Behind so many locals.
    fn new(locals: u32, marks: &[Mark]) -> Scratch {
        let mut used = [false; 3];
        for mark in marks {
            used[scratch_of(mark.shape)] = true;
        }
        let mut next = locals..;
        Scratch {
            locals: used.map(|used| used.then(|| next.next()).flatten()),
        }
    }

    fn groups(&self) -> u32 {
        self.locals.iter().flatten().count() as u32
    }

    fn declare(&self, out: &mut Vec<u8>) {
        for (local, of) in self.locals.iter().zip(SCRATCH) {
            if local.is_some() {
                let code = match of {
                    ValType::F32 => 0x7d,
                    ValType::F64 => 0x7c,
                    _ => 0x7b,
                };
                out.extend([1, code]);
            }
        }
    }

    /// `if value == value { value } else { NaN }` on the top of the stack, for each lane.
    fn compare(&self, shape: Shape, nan: Nan, out: &mut Vec<u8>) {
        // Each shape of a mark was counted.
        let Some(local) = self.locals[scratch_of(shape)] else {
            return;
        };
        let Nan(nan_32, nan_64) = nan;
        out.push(0x22); // local.tee
        unsigned(local, out);
        match shape {
            Shape::F32 => {
                out.push(0x43); // f32.const
                out.extend(nan_32.to_le_bytes());
            }
            Shape::F64 => {
                out.push(0x44); // f64.const
                out.extend(nan_64.to_le_bytes());
            }
            Shape::F32x4 => {
                out.extend([0xfd, 0x0c]); // v128.const
                (0..4).for_each(|_| out.extend(nan_32.to_le_bytes()));
            }
            Shape::F64x2 => {
                out.extend([0xfd, 0x0c]); // v128.const
                (0..2).for_each(|_| out.extend(nan_64.to_le_bytes()));
            }
        }
        for _ in 0..2 {
            out.push(0x20); // local.get
            unsigned(local, out);
        }
        out.extend_from_slice(match shape {
            Shape::F32 => &[0x5b, 0x1b],               // f32.eq, select
            Shape::F64 => &[0x61, 0x1b],               // f64.eq, select
            Shape::F32x4 => &[0xfd, 0x41, 0xfd, 0x52], // f32x4.eq, v128.bitselect
            Shape::F64x2 => &[0xfd, 0x47, 0xfd, 0x52], // f64x2.eq, v128.bitselect
        });
    }
}

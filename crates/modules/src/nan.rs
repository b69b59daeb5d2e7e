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
    BinaryReaderError as Error, FuncToValidate, FuncValidatorAllocations, FunctionBody,
    KnownCustom, Parser, Payload, ValType, ValidPayload, Validator, ValidatorResources,
    WasmFeatures,
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
    let mut validator = Validator::new_with_features(FEATURES);
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    let mut rewriter = Rewriter::default();
    let mut code = None;
    let mut out = Vec::with_capacity(module.len());
    for payload in parser.parse_all(module) {
        let payload = payload?;
        let valid = validator.payload(&payload)?;
        if let ValidPayload::Func(function, body) = valid {
            let bodies: &mut Vec<u8> = code.get_or_insert_default();
            rewriter.function(function, &body, module, bodies)?;
            continue;
        }
        if let Some(bodies) = code.take() {
            section(CODE, &bodies, &mut out);
        }
        match &payload {
            Payload::Version { range, .. } => out.extend_from_slice(&module[range.clone()]),
            Payload::CodeSectionStart { count, .. } => {
                let mut bodies = Vec::new();
                unsigned(*count, &mut bodies);
                code = Some(bodies);
            }
            Payload::CustomSection(custom)
                if !matches!(custom.as_known(), KnownCustom::Name(_)) => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    section(id, &module[range], &mut out);
                }
            }
        }
    }
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

/// Rewrites functions, and keeps memory from one to the next.
#[derive(Default)]
struct Rewriter {
    allocations: FuncValidatorAllocations,
    flow: Flow,
    body: Vec<u8>,
}

impl Rewriter {
    fn function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        module: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        let mut reader = body.get_binary_reader();
        let parameters = validator.len_locals();
        validator.read_locals(&mut reader)?;
        let locals = validator.len_locals();
        let begin = reader.original_position();
        self.flow.clear(parameters);
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let position = operators.original_position();
            let operator = operators.read()?;
            let behind = operators.original_position();
            self.flow
                .step(&mut validator, position, &operator, behind)?;
        }
        operators.finish()?;
        self.allocations = validator.into_allocations();

        let marks = self.flow.marks();
        let bytes = &module[body.range()];
        if marks.is_empty() {
            sized(bytes, out);
            return Ok(());
        }
        let begin = begin - body.range().start;
        let mut groups = body.get_locals_reader()?;
        let count = groups.get_count();
        let first = groups.original_position() - body.range().start;
        for _ in 0..count {
            groups.read()?;
        }
        let mut scratch = Scratch::new(locals, &marks);
        self.body.clear();
        unsigned(count + scratch.groups(), &mut self.body);
        self.body.extend_from_slice(&bytes[first..begin]);
        scratch.declare(&mut self.body);
        let mut copied = begin;
        for mark in marks {
            let behind = mark.behind - body.range().start;
            self.body.extend_from_slice(&bytes[copied..behind]);
            scratch.canonical(mark.shape, &mut self.body);
            copied = behind;
        }
        self.body.extend_from_slice(&bytes[copied..]);
        sized(&self.body, out);
        Ok(())
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
    fn canonical(&mut self, shape: Shape, out: &mut Vec<u8>) {
        // Each shape of a mark was counted.
        let Some(local) = self.locals[scratch_of(shape)] else {
            return;
        };
        let (nan_32, nan_64) = (0x7fc0_0000u32, 0x7ff8_0000_0000_0000u64);
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

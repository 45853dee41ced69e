//! What a suspendable function looks like to the emitter: its live instructions, and where among
//! them it can stop.

use std::collections::HashMap;
use std::ops::Range;

use wasmparser::{BlockType, FuncValidator, Operator, ValType, ValidatorResources};

use super::graph::Suspendable;
use super::liveness;
use super::module::{Body, Module, Reach, to_u32, to_usize};

/// More values than this, saved at all calls of one function, would make code beyond all limits of
/// the engines. Both operands and locals have to stay below it.
const ENTRIES_MAX: usize = 1 << 20;

pub(super) struct Shape {
    /// Parameters and declared locals.
    pub(super) locals: Vec<ValType>,
    pub(super) ops: Vec<Op>,
    /// The items of each sequence that has any, by the index of the sequence's first instruction.
    /// A sequence is the function's body, a construct's inside, or one arm of an `if`.
    pub(super) sequences: HashMap<usize, Vec<Item>>,
    /// By number; numbers count from 1.
    pub(super) calls: Vec<CallSite>,
}

pub(super) struct Op {
    pub(super) kind: Kind,
    /// Where the instruction lies in the module.
    pub(super) bytes: Range<usize>,
}

pub(super) enum Kind {
    /// Nothing that control flow, liveness or suspension depends on.
    Plain,
    Get(u32),
    Set(u32),
    Tee(u32),
    Block,
    Loop,
    If,
    Else,
    /// Knows the instruction that opened its construct; the end of the function has none.
    End(Option<usize>),
    Br(u32),
    BrIf(u32),
    BrTable(Box<[u32]>, u32),
    /// Leaves the function.
    Leave,
}

/// A place in a sequence where a resumed function has to get to: a call that may unwind, or a
/// construct with such a call inside.
pub(super) struct Item {
    pub(super) op: usize,
    /// The number of the call, or of the last call inside.
    pub(super) last: u32,
    pub(super) what: What,
    /// Operand stack height at which the sequence begins.
    pub(super) base: u32,
    /// Operands that the item leaves alone, those of this sequence, lowest first.
    pub(super) kept: Vec<ValType>,
    /// Operands that the item takes: arguments or parameters; an `if` also takes its condition.
    pub(super) taken: Vec<ValType>,
}

impl Item {
    /// The height of the lowest operand that the item takes.
    pub(super) fn bottom(&self) -> u32 {
        self.base + to_u32(self.kept.len())
    }
}

#[derive(PartialEq)]
pub(super) enum What {
    Call,
    Construct {
        results: Vec<ValType>,
        /// Locals that the construct reads, though nothing between the beginning of the sequence
        /// and the construct would keep them alive.
        stale: Vec<u32>,
    },
}

pub(super) struct CallSite {
    pub(super) op: usize,
    /// Types of all operands below the arguments, from the bottom of the function's stack.
    pub(super) operands: Vec<ValType>,
    /// The arguments, if the call needs them again: a control point, or an indirect call.
    pub(super) arguments: Vec<ValType>,
    /// Locals whose values matter after the call.
    pub(super) live: Vec<u32>,
}

impl Shape {
    /// # Errors
    /// The reason, in words, why this function cannot be instrumented.
    pub(super) fn of(
        module: &Module<'_>,
        suspendable: &Suspendable,
        body: &Body<'_>,
    ) -> Result<Shape, String> {
        let mut walk = Walk::new(module, suspendable, body)?;
        walk.run(body)?;
        let mut shape = walk.shape;
        let name = module.function_name(body.function);
        if !liveness::annotate(&mut shape, ENTRIES_MAX) {
            return Err(too_large(&name));
        }
        shape.check(&name)?;
        Ok(shape)
    }

    fn check(&self, name: &str) -> Result<(), String> {
        for call in &self.calls {
            let live = call.live.iter().map(|local| &self.locals[to_usize(*local)]);
            let values = call.operands.iter().chain(&call.arguments).chain(live);
            for ty in values {
                if matches!(ty, ValType::Ref(_)) {
                    return Err(format!(
                        "function `{name}` keeps a reference across a call that may stop"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A construct whose end is still to come.
struct Open {
    /// Its opening instruction; the function's body has none.
    op: Option<usize>,
    /// Height of the operand stack below its parameters.
    base: u32,
    /// What its opening instruction takes.
    taken: Vec<ValType>,
    results: Vec<ValType>,
    is_loop_with_parameters: bool,
    /// Where its current sequence begins.
    sequence: usize,
    /// Whether it is an item of the construct around it.
    is_item: bool,
}

struct Walk<'m, 'a> {
    module: &'m Module<'a>,
    suspendable: &'m Suspendable,
    function: u32,
    validator: FuncValidator<ValidatorResources>,
    open: Vec<Open>,
    /// How many of `open`, from the outermost, are items.
    items_open: usize,
    operands_left: usize,
    shape: Shape,
}

impl<'m, 'a> Walk<'m, 'a> {
    fn new(
        module: &'m Module<'a>,
        suspendable: &'m Suspendable,
        body: &Body<'a>,
    ) -> Result<Self, String> {
        let function_body = Open {
            op: None,
            base: 0,
            taken: Vec::new(),
            results: Vec::new(),
            is_loop_with_parameters: false,
            sequence: 0,
            is_item: true,
        };
        Ok(Walk {
            module,
            suspendable,
            function: body.function,
            validator: body.validator(),
            open: vec![function_body],
            items_open: 1,
            operands_left: ENTRIES_MAX,
            shape: Shape {
                locals: Vec::new(),
                ops: Vec::new(),
                sequences: HashMap::new(),
                calls: Vec::new(),
            },
        })
    }

    fn run(&mut self, body: &Body<'a>) -> Result<(), String> {
        let mut reader = body.body.get_binary_reader();
        self.validator
            .read_locals(&mut reader)
            .map_err(|error| error.to_string())?;
        let locals = 0..self.validator.len_locals();
        self.shape.locals = locals
            .filter_map(|index| self.validator.get_local_type(index))
            .collect();
        let mut reader = wasmparser::OperatorsReader::new(reader);
        let mut reach = Reach::default();
        while !reader.eof() {
            let (operator, start) = reader
                .read_with_offset()
                .map_err(|error| error.to_string())?;
            if reach.admits(&operator) {
                let bytes = start..reader.original_position();
                self.before(&operator)?;
                let kind = self.kind(&operator);
                self.shape.ops.push(Op { kind, bytes });
            }
            self.validator
                .op(start, &operator)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Notes what the state of the operand stack just before an instruction tells.
    fn before(&mut self, operator: &Operator<'_>) -> Result<(), String> {
        if let Some(instruction) = immovable(operator) {
            return Err(self.refusal(instruction));
        }
        match operator {
            Operator::Call { function_index }
                if self.suspendable.functions.contains(function_index) =>
            {
                let ty = self.module.function_type(*function_index);
                let again = self.module.control_points.contains(function_index);
                self.call(ty.params().to_vec(), again)?;
            }
            Operator::CallIndirect { type_index, .. }
                if self.suspendable.reached_by_type(*type_index) =>
            {
                let ty = &self.module.types[to_usize(*type_index)];
                let mut taken = ty.params().to_vec();
                taken.push(self.operand(self.height() - 1));
                self.call(taken, true)?;
            }
            Operator::Block { blockty } => self.enter(*blockty, false, false),
            Operator::Loop { blockty } => self.enter(*blockty, true, false),
            Operator::If { blockty } => self.enter(*blockty, false, true),
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, ty: BlockType, is_loop: bool, is_if: bool) {
        let (mut taken, results) = self.signature(ty);
        let is_loop_with_parameters = is_loop && !taken.is_empty();
        if is_if {
            taken.push(ValType::I32);
        }
        self.open.push(Open {
            op: Some(self.shape.ops.len()),
            base: self.height() - to_u32(taken.len()),
            taken,
            results,
            is_loop_with_parameters,
            sequence: self.shape.ops.len() + 1,
            is_item: false,
        });
    }

    /// Numbers the call that comes next, and makes items of it and of all constructs around it.
    fn call(&mut self, taken: Vec<ValType>, again: bool) -> Result<(), String> {
        let op = self.shape.ops.len();
        let number = to_u32(self.shape.calls.len()) + 1;
        for depth in self.items_open..self.open.len() {
            let around = &self.open[depth - 1];
            let open = &self.open[depth];
            if open.is_loop_with_parameters {
                return Err(self.refusal("has a loop with parameters around a control point"));
            }
            let item = Item {
                op: open.op.expect("only the function's body has none"),
                last: 0,
                what: What::Construct {
                    results: open.results.clone(),
                    stale: Vec::new(),
                },
                base: around.base,
                kept: self.operands(around.base..open.base),
                taken: open.taken.clone(),
            };
            let sequence = around.sequence;
            self.open[depth].is_item = true;
            let items = self.shape.sequences.entry(sequence).or_default();
            items.push(item);
        }
        self.items_open = self.open.len();
        let innermost = self.open.last().expect("the function's body is open");
        let below = self.height() - to_u32(taken.len());
        self.operands_left = self
            .operands_left
            .checked_sub(to_usize(self.height()))
            .ok_or_else(|| too_large(&self.module.function_name(self.function)))?;
        let (base, sequence) = (innermost.base, innermost.sequence);
        let item = Item {
            op,
            last: number,
            what: What::Call,
            base,
            kept: self.operands(base..below),
            taken: taken.clone(),
        };
        let site = CallSite {
            op,
            operands: self.operands(0..below),
            arguments: if again { taken } else { Vec::new() },
            live: Vec::new(),
        };
        self.shape.sequences.entry(sequence).or_default().push(item);
        self.shape.calls.push(site);
        Ok(())
    }

    fn kind(&mut self, operator: &Operator<'_>) -> Kind {
        match operator {
            Operator::LocalGet { local_index } => Kind::Get(*local_index),
            Operator::LocalSet { local_index } => Kind::Set(*local_index),
            Operator::LocalTee { local_index } => Kind::Tee(*local_index),
            Operator::Block { .. } => Kind::Block,
            Operator::Loop { .. } => Kind::Loop,
            Operator::If { .. } => Kind::If,
            Operator::Else => {
                let next = self.shape.ops.len() + 1;
                let open = self.open.last_mut().expect("an `if` is open");
                open.sequence = next;
                Kind::Else
            }
            Operator::End => {
                let open = self.open.pop().expect("a validated `end` has a beginning");
                if open.is_item {
                    self.items_open -= 1;
                    self.close_item(&open);
                }
                Kind::End(open.op)
            }
            Operator::Br { relative_depth } => Kind::Br(*relative_depth),
            Operator::BrIf { relative_depth } => Kind::BrIf(*relative_depth),
            Operator::BrTable { targets } => {
                let depths = targets.targets().flatten().collect();
                Kind::BrTable(depths, targets.default())
            }
            Operator::Return | Operator::Unreachable => Kind::Leave,
            _ => Kind::Plain,
        }
    }

    fn close_item(&mut self, open: &Open) {
        let Some(around) = self.open.last() else {
            return;
        };
        let last = to_u32(self.shape.calls.len());
        let items = self.shape.sequences.get_mut(&around.sequence);
        let item = items.and_then(|items| items.last_mut());
        let item = item.expect("an item is in the sequence around it");
        assert_eq!(
            Some(item.op),
            open.op,
            "items close in the order of the code"
        );
        item.last = last;
    }

    fn signature(&self, ty: BlockType) -> (Vec<ValType>, Vec<ValType>) {
        match ty {
            BlockType::Empty => (Vec::new(), Vec::new()),
            BlockType::Type(ty) => (Vec::new(), vec![ty]),
            BlockType::FuncType(index) => {
                let ty = &self.module.types[to_usize(index)];
                (ty.params().to_vec(), ty.results().to_vec())
            }
        }
    }

    fn height(&self) -> u32 {
        self.validator.operand_stack_height()
    }

    fn operands(&self, heights: Range<u32>) -> Vec<ValType> {
        heights.map(|height| self.operand(height)).collect()
    }

    fn operand(&self, height: u32) -> ValType {
        let depth = to_usize(self.height() - 1 - height);
        let ty = self.validator.get_operand_type(depth).flatten();
        ty.expect("operands of live code have types")
    }

    fn refusal(&self, what: &str) -> String {
        let name = self.module.function_name(self.function);
        format!("function `{name}`, which a control point may stop, {what}")
    }
}

fn too_large(name: &str) -> String {
    format!("function `{name}` keeps more than {ENTRIES_MAX} values across its calls")
}

fn immovable(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::ReturnCall { .. } => Some("makes a tail call (return_call)"),
        Operator::ReturnCallIndirect { .. } => Some("makes a tail call (return_call_indirect)"),
        Operator::Throw { .. } => Some("uses exceptions (throw)"),
        Operator::ThrowRef => Some("uses exceptions (throw_ref)"),
        Operator::TryTable { .. } => Some("uses exceptions (try_table)"),
        _ => None,
    }
}

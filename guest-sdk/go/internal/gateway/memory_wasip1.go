package gateway

import (
	"runtime"
	"unsafe"
)

// The host's values land in a fixed arena and are copied out of it. Allocating them on Go's heap could start a garbage
// collection, which reads the clock, and the component model allows no call while the host allocates. Only a value that
// does not fit comes to the heap, with collections held off.
const arenaSize = 1 << 20

// The preview1 adapter asks once for its stack and its state, 64 KiB each, and keeps them.
const adapterSize = 192 << 10

var memory struct {
	arena       [arenaSize]byte
	adapter     [adapterSize]byte
	arenaUsed   uintptr
	adapterUsed uintptr
	// Values that did not fit.
	large [][]uint64
	// Lifts under way: the arena is emptied when the last one ends. Several goroutines may lift at a time, as any
	// allocation may let another one run.
	lifts int
	// Whether the host has put the arguments of an export into the arena that the export has not lifted yet.
	arguments bool
	// Whether an import is being called.
	importing bool
}

//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(paused uint32)

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// The host allocates here.
//
//go:wasmexport cabi_realloc
//go:nosplit
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if !memory.importing {
		memory.arguments = true
	}
	base := uintptr(unsafe.Pointer(&memory.arena))
	at := (base + memory.arenaUsed + uintptr(align) - 1) &^ (uintptr(align) - 1)
	if old != nil || at+uintptr(size) > base+arenaSize {
		return reallocLarge(old, oldSize, size)
	}
	memory.arenaUsed = at + uintptr(size) - base
	return unsafe.Add(unsafe.Pointer(nil), at)
}

//go:noinline
func reallocLarge(old unsafe.Pointer, oldSize, size uint32) unsafe.Pointer {
	pauseClock(1)
	procPin() // no collection begins, and none takes part of the work, while pinned
	block := make([]uint64, (uint64(size)+7)/8+1)
	memory.large = append(memory.large, block)
	procUnpin()
	pauseClock(0)
	at := unsafe.Pointer(unsafe.SliceData(block))
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(at), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return at
}

// wit-component knows this name: the adapter would otherwise live in the arena. It is called before Go has started.
//
//go:wasmexport cabi_realloc_adapter
//go:nosplit
func reallocAdapter(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	base := uintptr(unsafe.Pointer(&memory.adapter))
	at := (base + memory.adapterUsed + uintptr(align) - 1) &^ (uintptr(align) - 1)
	if old != nil || at+uintptr(size) > base+adapterSize {
		*(*int)(nil) = 0 // traps: the adapter asks for no more
	}
	memory.adapterUsed = at + uintptr(size) - base
	return unsafe.Add(unsafe.Pointer(nil), at)
}

// Lifting begins: nothing in the arena is overwritten until Lifted.
func lifting() { memory.lifts++ }

func lifted() {
	memory.lifts--
	if memory.lifts == 0 && !memory.arguments {
		memory.arenaUsed = 0
		memory.large = nil
	}
}

// Arguments begins the lift of an export's arguments, and returns the function that ends it.
func Arguments() func() {
	lifting()
	return argumentsLifted
}

func argumentsLifted() {
	memory.arguments = false
	lifted()
}

// collecting tells whether the garbage collector marks: the write barrier is on.
func collecting() bool

// The calls between two yields at most.
const maxCalls = 16

var callsSinceYield int

// Yield lets the runtime's own goroutines run at the end of an export. Nothing else yields here, and a collection of a
// large heap would never end. It takes half the time of a short call, and so is left out of most while nothing is collected
// and the handler has left no goroutine behind.
func Yield() {
	callsSinceYield++
	if callsSinceYield < maxCalls && !collecting() && runtime.NumGoroutine() == 1 {
		return
	}
	callsSinceYield = 0
	runtime.Gosched()
}

#include "textflag.h"

// func collecting() bool
// The flag is the first field of the runtime's writeBarrier, which Go code of another package cannot read.
TEXT ·collecting(SB), NOSPLIT, $0-1
	MOVD $runtime·writeBarrier(SB), R0
	Get SP
	Get R0
	I32WrapI64
	I64Load8U $0
	I64Store8 ret+0(FP)
	RET

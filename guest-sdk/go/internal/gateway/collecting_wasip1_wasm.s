#include "textflag.h"

// func collecting() bool
// The runtime's flag has been the first field of writeBarrier since Go 1.7; Go code of another package cannot read it.
TEXT ·collecting(SB), NOSPLIT, $0-1
	MOVD $runtime·writeBarrier(SB), R0
	Get SP
	Get R0
	I32WrapI64
	I64Load8U $0
	I64Store8 ret+0(FP)
	RET

package gateway

import (
	"fmt"
	"reflect"
	"time"
)

// Identity says who a client is.
type Identity struct {
	Principal string
	Values    map[string]any
	Scopes    []string
	ExpiresAt time.Time
}

// Checked returns the identity with values of the types string, float64 and bool, or why the contract has none like it.
func (identity Identity) Checked() (Identity, error) {
	values := make(map[string]any, len(identity.Values))
	for name, value := range identity.Values {
		switch of := reflect.ValueOf(value); {
		case of.Kind() == reflect.String:
			values[name] = of.String()
		case of.Kind() == reflect.Bool:
			values[name] = of.Bool()
		case of.CanInt():
			values[name] = float64(of.Int())
		case of.CanUint():
			values[name] = float64(of.Uint())
		case of.CanFloat():
			values[name] = of.Float()
		default:
			return Identity{}, fmt.Errorf("the value %q of the identity is %T; values are strings, numbers and bools", name, value)
		}
	}
	if expires := identity.ExpiresAt; !expires.IsZero() {
		switch at := Milliseconds(expires); {
		case at < 0:
			return Identity{}, fmt.Errorf("the identity expires before 1970, at %s; the zero time is never", expires)
		case at >= TimesEnd:
			return Identity{}, fmt.Errorf("the identity expires too far ahead, in the year %d; the zero time is never", expires.Year())
		}
	}
	identity.Values = values
	return identity, nil
}

// TimesEnd is the first time that is too far ahead for the gateway, in milliseconds since 1970: in the year 287,396.
const TimesEnd = 1 << 53

// Milliseconds returns a time in milliseconds since 1970: a negative number before, and at most [TimesEnd].
func Milliseconds(at time.Time) int64 {
	// UnixMilli gives any number for what is further from 1970 than its milliseconds fit into an int64.
	switch seconds := at.Unix(); {
	case seconds < 0:
		return -1
	case seconds > TimesEnd/1000:
		return TimesEnd
	default:
		return min(at.UnixMilli(), TimesEnd)
	}
}

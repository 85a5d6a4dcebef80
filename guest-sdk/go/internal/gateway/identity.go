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
	if expires := identity.ExpiresAt; !expires.IsZero() && expires.UnixMilli() < 0 {
		return Identity{}, fmt.Errorf("the identity expires before 1970, at %s; the zero time is never", expires)
	}
	identity.Values = values
	return identity, nil
}

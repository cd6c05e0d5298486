// Answers as many identifiers as the event asks for.
package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/google/uuid"
)

const most = 100

type event struct {
	Count int `json:"count"`
}

type answer struct {
	IDs []uuid.UUID `json:"ids"`
}

func handle(_ context.Context, e event) (answer, error) {
	if e.Count < 1 || e.Count > most {
		return answer{}, fmt.Errorf("count: must be 1 to %d, got %d", most, e.Count)
	}
	ids := make([]uuid.UUID, e.Count)
	for i := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return answer{}, err
		}
		ids[i] = id
	}
	return answer{IDs: ids}, nil
}

func main() {
	lambda.Start(handle)
}

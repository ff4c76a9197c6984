package pages

import (
	"context"
	"fmt"
	"net/url"
)

// BaseURLForm describes the form that asks for the base URL alone, when all else
// is known.
type BaseURLForm struct {
	BaseURL string // what the field holds at first
}

// baseURLView is what the base URL page shows.
type baseURLView struct{ BaseURL string }

// AskBaseURL asks for a base URL, which is https and has no trailing slash. It
// fails with [ErrCancelled], [ErrClosed] or the cause of ctx's end.
func (s *Server) AskBaseURL(ctx context.Context, b BaseURLForm) (answer string, err error) {
	err = s.ask(ctx, &form{
		draw: func(typed url.Values, wrong problems) view {
			v := s.view("site", "Which "+clip(s.cfg.DisplayName, maxName)+"?")
			v.Wrong, v.Site = wrong, &baseURLView{again(typed, fieldBaseURL, b.BaseURL)}
			return v
		},
		read: func(values url.Values) (wrong problems) {
			base, text := readBaseURL(true, values)
			if text != "" {
				return problems{{fieldBaseURL, text}}
			}
			answer = base
			return nil
		},
	})
	if err != nil {
		return "", fmt.Errorf("ask for base URL: %w", err)
	}
	return answer, nil
}

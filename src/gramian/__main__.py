"""`python -m gramian` is `gramian`."""

try:
    from gramian.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

if __name__ == "__main__":
    main()

from charactery.cli import main

main()
